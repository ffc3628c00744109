//! Puts messages into the queue and waits until they are durable.

use std::time::{Duration, Instant};

use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{Message, topology};
use crate::{
    bus::amqp::{Backoff, Broken, Server, within},
    metric::Metric,
    reach::Reach,
};

/// How long a batch may take to become durable. Then it counts as not taken, and the connection as broken.
const CONFIRM_SECONDS_MAX: Duration = Duration::from_secs(3);

/// Batches that wait. There is one at a time from each of the few that publish.
const ORDERS_MAX: usize = 16;

/// Time between looks at whether the connection still stands.
const LOOK: Duration = Duration::from_secs(1);

/// AMQP's delivery mode of a message that is written to disk.
const PERSISTENT: u8 = 2;

struct Order {
    messages: Vec<Message>,
    reply: oneshot::Sender<Vec<bool>>,
}

/// A handle to the task that owns the connection.
#[derive(Clone)]
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    reach: Reach,
}

impl Handle {
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(super) async fn publish(&self, messages: Vec<Message>) -> Vec<bool> {
        let none = vec![false; messages.len()];
        let (reply, confirmed) = oneshot::channel();
        if self.orders.send(Order { messages, reply }).await.is_err() {
            return none;
        }
        confirmed.await.unwrap_or(none)
    }
}

pub(super) fn start(server: Server, name: String) -> Handle {
    let (orders, receiver) = mpsc::channel(ORDERS_MAX);
    let reach = Reach::default();
    tokio::spawn(Task { server, name, orders: receiver, reach: reach.clone() }.run());
    Handle { orders, reach }
}

struct Task {
    server: Server,
    name: String,
    orders: mpsc::Receiver<Order>,
    reach: Reach,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let ended = self.serve().await;
            let Err(error) = ended else { return };
            self.reach.down(&error);
            tracing::warn!(%error, "the queue is away");
            if self.refuse_for(backoff.after(began.elapsed())).await {
                return;
            }
        }
    }

    /// Takes nothing while the queue is away, without making anyone wait. Tells whether the node is done with the queue.
    async fn refuse_for(&mut self, wait: Duration) -> bool {
        let wait = sleep(wait);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return false,
                // Dropping the reply says that nothing was taken.
                order = self.orders.recv() => if order.is_none() {
                    return true;
                },
            }
        }
    }

    /// Serves one connection to its end. `Ok` when the node is done with the queue.
    async fn serve(&mut self) -> Result<(), Broken> {
        let connection = self.server.connect(&self.name).await?;
        let channel = within(connection.create_channel()).await?;
        topology::declare(&channel).await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.reach.up();
        tracing::info!("the queue takes sends");
        loop {
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(Order { messages, reply }) = order else {
                        let _ = within(connection.close(200, "done".into())).await;
                        return Ok(());
                    };
                    let mut confirmed = vec![false; messages.len()];
                    let published = timeout(CONFIRM_SECONDS_MAX, publish(&channel, messages, &mut confirmed)).await;
                    let _ = reply.send(confirmed);
                    published.map_err(|_| Broken("messages are not confirmed".into()))??;
                }
                _ = looks.tick() => {
                    if !channel.status().connected() {
                        return Err(Broken("the connection is lost".into()));
                    }
                }
            }
        }
    }
}

/// Publishes and waits; notes in `confirmed` what is durable, also when it is given up half-way.
async fn publish(channel: &Channel, messages: Vec<Message>, confirmed: &mut [bool]) -> Result<(), Broken> {
    let mut confirms: Vec<PublisherConfirm> = Vec::with_capacity(messages.len());
    for Message { partition, payload } in messages {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let queue = topology::name(partition);
        confirms.push(channel.basic_publish("".into(), queue.into(), options, &payload, properties).await?);
    }
    for (confirm, confirmed) in confirms.into_iter().zip(confirmed) {
        *confirmed = match confirm.await? {
            Confirmation::Ack(None) => true,
            Confirmation::Ack(Some(_)) | Confirmation::Nack(_) | Confirmation::NotRequested => {
                Metric::QueueRefusals.count();
                false
            }
        };
    }
    Ok(())
}
