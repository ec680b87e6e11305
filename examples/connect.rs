//! Two clients, one statement each, prepared once: it is found whichever server each transaction gets.
//!
//! ```sh
//! cargo run --example connect -- "host=127.0.0.1 port=6432 user=app password=secret dbname=app"
//! ```
//!
//! Through a pool in transaction mode both clients take turns on the same servers, and the statement that was prepared on one
//! works on all. Straight at PostgreSQL each client keeps the one server it has.

use std::collections::HashSet;
use std::process::ExitCode;

use tokio_postgres::{Client, Error, NoTls, Statement};

const SQL: &str = "SELECT $1::int4 * 2, pg_backend_pid()";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(dsn) = std::env::args().nth(1) else {
        eprintln!("usage: connect DSN, such as \"host=127.0.0.1 port=6432 user=app dbname=app\"");
        return ExitCode::from(2);
    };
    match show(&dsn).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(dsn: &str) -> Result<(), Error> {
    let (mut anna, mut bert) = (
        Guest::arrive("anna", dsn).await?,
        Guest::arrive("bert", dsn).await?,
    );
    for number in 1..=3 {
        anna.ask(number).await?;
        bert.ask(number).await?;
    }
    println!("anna begins a transaction, which keeps her server from bert:");
    anna.client.batch_execute("BEGIN").await?;
    anna.ask(4).await?;
    bert.ask(4).await?;
    anna.client.batch_execute("COMMIT").await?;
    println!("bert begins one, perhaps on the server that was hers:");
    bert.client.batch_execute("BEGIN").await?;
    bert.ask(5).await?;
    anna.ask(5).await?;
    bert.client.batch_execute("COMMIT").await?;

    let shared = anna.servers.intersection(&bert.servers).count();
    let all = anna.servers.union(&bert.servers).count();
    println!(
        "\nEach prepared its statement once. {all} servers answered, {shared} of them both: {}.",
        if shared > 0 {
            "this is a pool, and statements survive it"
        } else {
            "nothing is shared, so this is no pool in transaction mode"
        }
    );
    Ok(())
}

/// A client, its statement, and the servers that have answered it.
struct Guest {
    name: &'static str,
    client: Client,
    statement: Statement,
    servers: HashSet<i32>,
}

impl Guest {
    async fn arrive(name: &'static str, dsn: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{name}'s connection ended: {error}");
            }
        });
        let statement = client.prepare(SQL).await?;
        Ok(Self {
            name,
            client,
            statement,
            servers: HashSet::new(),
        })
    }

    async fn ask(&mut self, number: i32) -> Result<(), Error> {
        let row = self.client.query_one(&self.statement, &[&number]).await?;
        let (twice, server): (i32, i32) = (row.get(0), row.get(1));
        self.servers.insert(server);
        println!(
            "  {}: twice {number} is {twice}, says server {server}",
            self.name
        );
        Ok(())
    }
}
