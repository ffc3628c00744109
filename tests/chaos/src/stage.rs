//! Nodes, PostgreSQL and RabbitMQ that belong to one test, and the network between them.
//!
//! Each node reaches each server over a link of its own. Only this module strikes.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is the report of a test")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Value, json};
use services::Apart;
use standalone::Node;
use tokio::{
    task::{JoinHandle, block_in_place},
    time::sleep,
};

use crate::{
    plan::{Fault, Harm, Server, Target},
    proxy::{Proxy, Weather},
};

/// How much a slow link adds to each chunk.
const DELAY: Duration = Duration::from_millis(150);
/// How long a flapping link stays in each state.
const FLAP: Duration = Duration::from_millis(400);

/// Everything that can be struck.
pub struct Stage {
    nodes: Vec<Node>,
    /// Each node's links, to PostgreSQL and to RabbitMQ.
    links: Vec<[Arc<Proxy>; 2]>,
    flapping: Vec<(Arc<Proxy>, JoinHandle<()>)>,
    database: String,
    // The last field: servers end after those that use them.
    services: Apart,
}

impl Stage {
    /// Starts servers of its own and `count` nodes with them, whose configuration has these further keys.
    pub async fn set(count: usize, further: &Value) -> Stage {
        let services = Apart::new().unwrap();
        let (postgres, rabbitmq) = block_in_place(|| {
            services.up().unwrap();
            (services.postgres.fresh_database().unwrap(), services.rabbitmq.fresh_vhost().unwrap())
        });
        let ports = [services.postgres.port(), services.rabbitmq.port()];
        let links: Vec<[Arc<Proxy>; 2]> = join_all((0..count).map(|_| node_links(ports))).await;
        let nodes = block_in_place(|| {
            let start = |[to_postgres, to_rabbitmq]: &[Arc<Proxy>; 2]| {
                let mut config = json!({
                    "store": {"sqlite": null, "postgres": {"endpoint": {"url": through(&postgres, ports[0], to_postgres)}}},
                    "bus": {"rabbitmq": {"endpoint": {"url": through(&rabbitmq, ports[1], to_rabbitmq)}}},
                });
                config.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
                Node::start(config)
            };
            links.iter().map(start).collect()
        });
        let database = postgres.rsplit('/').next().unwrap().to_owned();
        Stage { nodes, links, flapping: Vec::new(), database, services }
    }

    /// Where clients connect.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// Runs a statement in the nodes' database, as its superuser; tells the rows.
    pub fn sql(&self, statement: &str) -> String {
        block_in_place(|| self.services.postgres.sql(&self.database, statement)).unwrap()
    }

    /// Keeps a copy of the database, to be set back to.
    pub fn keep_database(&self) {
        block_in_place(|| self.services.postgres.keep()).unwrap();
    }

    /// Sets the database back to the copy, as a restore from a backup does.
    pub fn set_database_back(&self) {
        block_in_place(|| self.services.postgres.set_back()).unwrap();
    }

    /// Makes a fault happen.
    pub fn strike(&mut self, Fault { target, harm }: Fault) {
        match target {
            Target::Node(index) => block_in_place(|| strike_node(&mut self.nodes[index], harm)),
            Target::Server(server) => block_in_place(|| self.strike_server(server, harm)),
            Target::Link(..) | Target::Links(_) => self.links_of(target).into_iter().for_each(|link| {
                match harm {
                    Harm::Cut => link.set(Weather::Cut),
                    Harm::Swallow => link.set(Weather::Swallow),
                    Harm::Slow => link.set(Weather::Slow(DELAY)),
                    Harm::Flap => self.flapping.push((link.clone(), tokio::spawn(flap(link)))),
                    Harm::Kill | Harm::Freeze | Harm::Leave => panic!("a link cannot {harm:?}"),
                };
            }),
        }
    }

    /// Ends these faults: the network first, then the servers, then the nodes, which need both.
    pub fn mend(&mut self, faults: &[Fault]) {
        for (link, task) in self.flapping.drain(..) {
            task.abort();
            link.set(Weather::Fair);
        }
        for Fault { target, .. } in faults {
            self.links_of(*target).iter().for_each(|link| link.set(Weather::Fair));
        }
        for Fault { target, harm } in faults {
            if let Target::Server(server) = target {
                block_in_place(|| self.mend_server(*server, *harm));
            }
        }
        for Fault { target, harm } in faults {
            if let Target::Node(index) = target {
                let node = &mut self.nodes[*index];
                block_in_place(|| match harm {
                    Harm::Freeze => node.thaw(),
                    Harm::Leave => node.start_again_after_it_left(),
                    _ => node.start_again(),
                });
            }
        }
    }

    fn links_of(&self, target: Target) -> Vec<Arc<Proxy>> {
        let to = |server: Server, links: &[Arc<Proxy>; 2]| links[usize::from(server == Server::Rabbitmq)].clone();
        match target {
            Target::Link(node, server) => vec![to(server, &self.links[node])],
            Target::Links(server) => self.links.iter().map(|links| to(server, links)).collect(),
            Target::Node(_) | Target::Server(_) => Vec::new(),
        }
    }

    fn strike_server(&self, server: Server, harm: Harm) {
        let (postgres, rabbitmq) = (&self.services.postgres, &self.services.rabbitmq);
        let struck = match (server, harm) {
            (Server::Postgres, Harm::Kill) => postgres.kill(),
            (Server::Postgres, Harm::Freeze) => postgres.freeze(),
            (Server::Postgres, _) => postgres.stop(),
            (Server::Rabbitmq, Harm::Kill) => rabbitmq.kill(),
            (Server::Rabbitmq, Harm::Freeze) => rabbitmq.freeze(),
            (Server::Rabbitmq, _) => rabbitmq.stop(),
        };
        struck.unwrap();
    }

    fn mend_server(&self, server: Server, harm: Harm) {
        let (postgres, rabbitmq) = (&self.services.postgres, &self.services.rabbitmq);
        let mended = match (server, harm) {
            (Server::Postgres, Harm::Freeze) => postgres.thaw(),
            (Server::Postgres, _) => postgres.start(),
            (Server::Rabbitmq, Harm::Freeze) => rabbitmq.thaw(),
            (Server::Rabbitmq, _) => rabbitmq.start(),
        };
        mended.unwrap();
    }
}

fn strike_node(node: &mut Node, harm: Harm) {
    match harm {
        Harm::Kill => node.kill(),
        Harm::Freeze => node.freeze(),
        Harm::Leave => node.terminate(),
        Harm::Cut | Harm::Swallow | Harm::Slow | Harm::Flap => panic!("a node cannot {harm:?}"),
    }
}

async fn node_links(ports: [u16; 2]) -> [Arc<Proxy>; 2] {
    let start = async |port| Arc::new(Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap());
    [start(ports[0]).await, start(ports[1]).await]
}

/// The server's URL with the link's port instead of its own.
fn through(url: &str, port: u16, link: &Proxy) -> String {
    let changed = url.replace(&format!(":{port}/"), &format!(":{}/", link.address().port()));
    assert_ne!(changed, url, "the URL has no port");
    changed
}

/// Until it is aborted, as the mending does.
async fn flap(link: Arc<Proxy>) {
    loop {
        for weather in [Weather::Cut, Weather::Fair] {
            link.set(weather);
            sleep(FLAP).await;
        }
    }
}
