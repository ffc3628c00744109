//! One link of the network: a TCP proxy whose weather can be changed while connections are open.
//!
//! It forwards bytes and knows nothing of what they mean.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Bytes that are forwarded at once.
const CHUNK_BYTES: usize = 16 << 10;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It forwards.
    Fair,
    /// It forwards each chunk after this time.
    Slow(Duration),
    /// Connections stay open, new ones are taken, and nothing comes through: a switch that drops packets.
    Swallow,
    /// Connections are reset, and new ones at once as well: a server that is not there.
    Cut,
}

/// A running link; it ends, with its connections, when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on loopback and forwards to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (weather, watched) = watch::channel(Weather::Fair);
        let task = tokio::spawn(accept(listener, target, watched));
        Ok(Proxy { address, weather, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.send_replace(Weather::Cut);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Receiver<Weather>) {
    // An error ends the link: the process has no file descriptors left, and no test can go on.
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(link(near, target, weather.clone()));
    }
}

/// One connection, until either side ends it or the weather does.
async fn link(mut near: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let cut = weather.clone();
    let forwarded = async {
        // While packets are dropped, no connection to the target comes about either.
        if weather.wait_for(|weather| *weather != Weather::Swallow).await.is_err() {
            return;
        }
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        // A reset, not an orderly end, is what the other side sees when this is dropped.
        let _ = (near.set_zero_linger(), far.set_zero_linger());
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        tokio::select! {
            () = copy(near_read, far_write, weather.clone()) => {}
            () = copy(far_read, near_write, weather) => {}
        }
    };
    tokio::select! {
        () = forwarded => {}
        () = is_cut(cut) => {}
    }
}

async fn is_cut(mut weather: watch::Receiver<Weather>) {
    // An error means that the link is gone.
    let _ = weather.wait_for(|weather| *weather == Weather::Cut).await;
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut weather: watch::Receiver<Weather>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut chunk).await else { return };
        let now = match weather.wait_for(|weather| *weather != Weather::Swallow).await {
            Ok(now) => *now,
            Err(_) => return,
        };
        if let Weather::Slow(delay) = now {
            sleep(delay).await;
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    /// Long enough for loopback, short enough for a test.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(&[7]).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn each_weather_is_felt_by_an_open_connection_and_passes() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);

        proxy.set(Weather::Swallow);
        stream.write_all(&[8]).await.unwrap();
        assert!(timeout(A_WHILE, stream.read_u8()).await.is_err(), "something came through");
        proxy.set(Weather::Fair);
        assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), 8, "what was held back arrives");

        proxy.set(Weather::Slow(A_WHILE));
        let before = tokio::time::Instant::now();
        assert_eq!(timeout(PATIENCE, ask(&mut stream)).await.unwrap().unwrap(), 7);
        assert!(before.elapsed() >= A_WHILE, "it was not slow");

        proxy.set(Weather::Cut);
        let error = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        timeout(PATIENCE, ask(&mut refused)).await.unwrap().unwrap_err();

        proxy.set(Weather::Fair);
        let mut back = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(timeout(PATIENCE, ask(&mut back)).await.unwrap().unwrap(), 7);
    }
}
