//! Takes messages out of the queue, in order, and lets go of them only when told that they are safe elsewhere.

use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream, SelectAll, select_all},
};
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};

use super::topology;
use crate::bus::amqp::{Broken, Server, within};

/// Messages of a partition that are under way to this node.
const PREFETCH: u16 = 500;

/// A message that was taken out.
#[derive(Debug)]
pub struct Delivery {
    /// What was put in.
    pub payload: Vec<u8>,
    /// By which it is let go of.
    pub receipt: Receipt,
}

/// Names a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    channel: usize,
    tag: u64,
}

impl Receipt {
    /// Names the delivery with this tag on this channel.
    pub(crate) fn new(channel: usize, tag: u64) -> Self {
        Receipt { channel, tag }
    }

    /// Whether letting go of this one lets go of that one too.
    pub(crate) fn is_behind(self, other: Receipt) -> bool {
        self.channel == other.channel && self.tag > other.tag
    }
}

/// What comes of one queue, by its number: a message, or nothing more.
type Coming = BoxStream<'static, (usize, Option<Result<lapin::message::Delivery, lapin::Error>>)>;

/// Messages as they come. Dropping it puts back what was not let go of.
pub struct Deliveries {
    connection: Connection,
    /// One a queue: letting go of a message also lets go of all before it on its channel.
    channels: Vec<Channel>,
    streams: SelectAll<Coming>,
}

impl Deliveries {
    pub(super) async fn begin(server: &Server, name: &str) -> Result<Self, Broken> {
        let connection = server.connect(name).await?;
        topology::declare(&within(connection.create_channel()).await?).await?;
        let (mut channels, mut streams) = (Vec::new(), Vec::new());
        for (index, queue) in topology::names().enumerate() {
            let channel = within(connection.create_channel()).await?;
            within(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = within(channel.basic_consume(queue.into(), "".into(), options, arguments)).await?;
            // One that ends was cancelled, as when its queue is deleted: then all begin anew, and declare it.
            let deliveries = consumer.map(Some).chain(stream::once(async { None }));
            streams.push(deliveries.map(move |delivery| (index, delivery)).boxed());
            channels.push(channel);
        }
        Ok(Deliveries { connection, channels, streams: select_all(streams) })
    }

    /// Waits for a message, and takes what else is here, up to `max`. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, Broken> {
        let mut next = self.streams.next().await;
        let mut deliveries = Vec::new();
        loop {
            let cancelled = || Broken("a consumer was cancelled".into());
            let (channel, delivery) = next.ok_or_else(cancelled)?;
            let delivery = delivery.ok_or_else(cancelled)??;
            let receipt = Receipt::new(channel, delivery.delivery_tag);
            deliveries.push(Delivery { payload: delivery.data, receipt });
            if deliveries.len() >= max {
                return Ok(deliveries);
            }
            match self.streams.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(deliveries),
            }
        }
    }

    /// Lets go of messages: they are safe elsewhere, and with them all that came before them on the same channel.
    ///
    /// # Errors
    /// When the connection broke; the messages come again.
    pub async fn let_go(&mut self, receipts: &[Receipt]) -> Result<(), Broken> {
        for (index, channel) in self.channels.iter().enumerate() {
            let last = receipts.iter().filter(|receipt| receipt.channel == index).map(|receipt| receipt.tag).max();
            if let Some(tag) = last {
                within(channel.basic_ack(tag, BasicAckOptions { multiple: true })).await?;
            }
        }
        Ok(())
    }

    /// Puts back what was not let go of, for another consumer.
    pub async fn close(self) {
        // A connection that cannot be closed in order is closed by its end.
        let _ = within(self.connection.close(200, "done".into())).await;
    }
}
