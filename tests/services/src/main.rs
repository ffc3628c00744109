//! Starts and ends the servers that tests and `make run` use.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use services::Services;

/// A real PostgreSQL and a real RabbitMQ, for tests. A real Redis is started by those that need one.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts both, unless they run.
    Up {
        /// The address that others will use. Both listen on every address, so any will do.
        #[arg(long)]
        listen: Option<String>,
    },
    /// Ends all.
    Down,
    /// Tells whether they run.
    Status,
    /// Makes a database or a virtual host unless it is there, and prints its URL.
    Url {
        /// Which server.
        server: Server,
        /// Name of the database or the virtual host.
        name: String,
        /// The host in the URL.
        #[arg(long, env = "CHATCLUSTER_HOST_ADDRESS", default_value = "127.0.0.1")]
        host: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Server {
    Postgres,
    Rabbitmq,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("services: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let services = Services::new()?;
    match command {
        Command::Up { listen } => {
            services.up()?;
            println!("PostgreSQL and RabbitMQ answer at {}", listen.as_deref().unwrap_or("127.0.0.1"));
        }
        Command::Down => services.down()?,
        Command::Status => {
            let state = |runs| if runs { "runs" } else { "does not run" };
            println!("PostgreSQL {}", state(services.postgres.is_running()));
            println!("RabbitMQ   {}", state(services.rabbitmq.is_running()));
            println!("Redis      {}", state(services.redis.is_running()));
        }
        Command::Url { server, name, host } => match server {
            Server::Postgres => println!("{}", services.postgres.database(&name, &host)?),
            Server::Rabbitmq => println!("{}", services.rabbitmq.vhost(&name, &host)?),
        },
    }
    Ok(())
}
