//! How a byte stream to a node is made. The client and the REST calls run over whatever is dialled here.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use url::Url;

/// A byte stream to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes byte streams to some node of a cluster, each time perhaps to another one, like a load balancer.
pub trait Dial: Send + Sync {
    /// Connects to a node.
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// Nodes at known addresses, in turn.
#[derive(Debug)]
pub struct Tcp {
    addresses: Vec<String>,
    next: AtomicUsize,
}

/// Why a list of URLs cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// Not one was given.
    #[error("no URL is given: name a node, such as http://127.0.0.1:8080")]
    None,
    /// One of them is something else.
    #[error("{0:?} is not the URL of a node: write http://host:port")]
    Form(String),
}

impl Tcp {
    /// Takes URLs of the form `http://host:port`; `first` is the index of the one that is dialled first.
    ///
    /// # Errors
    /// When there is none, or one has another form.
    pub fn new<S: AsRef<str>>(urls: &[S], first: usize) -> Result<Self, BadUrl> {
        let addresses = urls.iter().map(|url| address(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(BadUrl::None);
        }
        Ok(Tcp { addresses, next: AtomicUsize::new(first) })
    }
}

fn address(text: &str) -> Result<String, BadUrl> {
    let bad = || BadUrl::Form(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    match (url.scheme(), url.host(), url.port_or_known_default(), url.path()) {
        ("http" | "ws", Some(host), Some(port), "/" | "") => Ok(format!("{host}:{port}")),
        _ => Err(bad()),
    }
}

impl Dial for Tcp {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        Box::pin(async move {
            let stream = TcpStream::connect(&self.addresses[index]).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_addresses_or_are_refused_with_the_form_to_write() {
        let addresses = |urls: &[&str]| Tcp::new(urls, 0).map(|tcp| tcp.addresses).map_err(|error| error.to_string());
        assert_eq!(addresses(&["http://127.0.0.1:8080", "http://[::1]"]).unwrap(), ["127.0.0.1:8080", "[::1]:80"]);
        for bad in ["127.0.0.1:8080", "https://a", "http://a/ws"] {
            let error = addresses(&[bad]).unwrap_err();
            assert!(error.contains(bad) && error.contains("write http://host:port"), "{error}");
        }
        assert!(addresses(&[]).unwrap_err().starts_with("no URL is given"));
    }
}
