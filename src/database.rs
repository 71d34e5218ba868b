//! Connections to the database, and what it can do.

use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleResult, Timeouts};
use futures_util::FutureExt;
use pgml_protocol::error::sqlstate;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Connection};
use tracing::debug;

use crate::error::{Error, Kind, Result};
use crate::options::Options;
use crate::stream::RowSender;

/// A database and the connections to it.
///
/// Connections are pooled by deadpool rather than by sqlx's own pool: that one asks the server
/// for a sign of life before each use, which is a round trip, and it retries a refused connection
/// until its time is up and then reports a timeout in place of the cause.
pub(crate) struct Database {
    pool: Pool<Connector>,
    options: Options,
}

struct Connector {
    options: PgConnectOptions,
    timeout: Duration,
    description: String,
}

impl Manager for Connector {
    type Type = PgConnection;
    type Error = Error;

    async fn create(&self) -> Result<PgConnection> {
        let begun = Instant::now();
        match tokio::time::timeout(self.timeout, self.options.connect()).await {
            Ok(Ok(connection)) => {
                debug!(database = self.description, took = ?begun.elapsed(), "connected");
                Ok(connection)
            }
            Ok(Err(error)) => Err(self.cannot_connect(error)),
            Err(_) => Err(Error::new(
                Kind::Timeout,
                format!("{} did not answer within {:?}", self.description, self.timeout),
            )
            .sqlstate(sqlstate::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)),
        }
    }

    /// A connection comes back only from a statement that ran to its end (see [`Lease`]), so it
    /// needs no test. If the server has gone since, the next statement finds out and reconnects.
    async fn recycle(&self, _: &mut PgConnection, _: &Metrics) -> RecycleResult<Error> {
        Ok(())
    }
}

impl Connector {
    fn cannot_connect(&self, error: sqlx::Error) -> Error {
        let problem = match &error {
            sqlx::Error::Io(error) => error.to_string(),
            _ => {
                let error = Error::from(error);
                // The server's own words and SQLSTATE: a wrong password, an unknown database.
                return Error {
                    message: format!("cannot connect to {}: {}", self.description, error.message),
                    ..error
                };
            }
        };
        Error::new(Kind::Connection, format!("cannot connect to {}: {problem}", self.description))
            .sqlstate(sqlstate::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
            .hint("Is Postgres running there, and is the database URL right?")
    }
}

impl Database {
    pub fn new(url: &str, options: Options) -> Result<Database> {
        let connect: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            // The URL itself may hold a password, and is not repeated.
            Error {
                hint: Some("It looks like postgresql://user:password@host:5432/database.".into()),
                ..error.into()
            }
        })?;
        let connect = match connect.get_application_name() {
            Some(_) => connect,
            None => connect.application_name("pgml"),
        };
        let description = describe(&connect);
        let connector = Connector {
            options: connect.disable_statement_logging(),
            timeout: options.connect_timeout,
            description,
        };
        let pool = Pool::builder(connector)
            .max_size(options.max_connections)
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(options.acquire_timeout), create: None, recycle: None })
            .build()
            .map_err(|error| Error::new(Kind::Configuration, error.to_string()))?;
        Ok(Database { pool, options })
    }

    pub fn describe(&self) -> &str {
        &self.pool.manager().description
    }

    /// A connection, waiting for one while all are in use.
    async fn lease(&self) -> Result<Lease> {
        match self.pool.get().await {
            Ok(object) => {
                Ok(Lease { fresh: Object::metrics(&object).recycled.is_none(), object: Some(object) })
            }
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Timeout(_)) => Err(Error::new(
                Kind::Timeout,
                format!(
                    "all {} connections to {} were in use for {:?}",
                    self.options.max_connections,
                    self.describe(),
                    self.options.acquire_timeout
                ),
            )
            .hint("Raise max_connections or acquire_timeout, or read and close streams sooner.")),
            Err(PoolError::Closed) => Err(Error::new(Kind::Connection, "the client has been closed")),
            Err(error) => Err(Error::new(Kind::Connection, error.to_string())),
        }
    }

    /// Closes idle connections at once, and those in use when they come back. There will be no more.
    pub fn close(&self) {
        self.pool.close();
    }

    pub fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Runs a statement on a connection of the pool.
    ///
    /// A connection that had been idle may have been closed by the server since. Then, and only
    /// while there is no row yet, the statement is run once more, on a new connection.
    pub async fn run(&self, statement: &impl Statement, rows: &RowSender) -> Result<()> {
        loop {
            let mut lease = self.lease().await?;
            match statement.run(lease.connection(), rows).await {
                Ok(true) => {
                    lease.give_back();
                    return Ok(());
                }
                Ok(false) => return Ok(()),
                Err(error)
                    if error.spoils_connection() && error.is_passing() && !rows.started() && !lease.fresh =>
                {
                    debug!(%error, "an idle connection was lost: all idle ones are closed");
                    // What other idle connections there are is as dead as this one.
                    self.pool.retain(|_, _| false);
                }
                Err(error) => {
                    // An error of the database ends its statement: the connection is as good as before.
                    if !error.spoils_connection() {
                        lease.give_back();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The one row of a query without parameters.
    pub async fn fetch_one(&self, sql: &'static str, timeout: Duration) -> Result<PgRow> {
        let mut lease = self.lease().await?;
        let row = within(timeout, sqlx::query(sql).fetch_one(lease.connection())).await;
        if !row.as_ref().is_err_and(Error::spoils_connection) {
            lease.give_back();
        }
        row
    }
}

/// What is run on a connection: a completion, in the words of one dialect.
pub(crate) trait Statement: Sync {
    /// Puts its rows where they belong. True: it came to its end. False: it was left, because nobody
    /// reads its rows.
    fn run(
        &self,
        connection: &mut PgConnection,
        rows: &RowSender,
    ) -> impl Future<Output = Result<bool>> + Send;
}

/// Waits for an answer of the database, but no longer than this.
pub(crate) async fn within<T, E: Into<Error>>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Error::new(Kind::Timeout, format!("nothing came for {timeout:?}"))
            .hint("The argument `timeout` sets this limit.")),
    }
}

/// A connection for the time of one statement.
///
/// Dropped without [`Lease::give_back`], it is closed, not reused: its statement may still run.
/// Our extension notices a closed connection at once, ends the statement and lets the engine go;
/// that needs no second connection and no right to cancel, and works through any pooler.
struct Lease {
    object: Option<Object<Connector>>,
    /// Whether the connection was made for this lease.
    fresh: bool,
}

impl Lease {
    fn connection(&mut self) -> &mut PgConnection {
        self.object.as_mut().expect("a lease holds its connection until it is given back")
    }

    /// The statement ran to its end: the connection can be used again.
    fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            // A process made by fork may hold the same socket. So it is shut down, which the server
            // sees at once, and not only closed. The future has no step to wait for.
            let _ = Object::take(object).close_hard().now_or_never();
        }
    }
}

/// Where a database is, without who asks and by which password.
fn describe(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("database {name:?} at {}", socket.display()),
        None => format!("database {name:?} at {}:{}", options.get_host(), options.get_port()),
    }
}
