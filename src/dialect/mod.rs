//! What a database speaks: the statements of a completion, for each kind of database.
//!
//! * [`native`]: our extension.
//! * [`postgresml`]: a PostgresML server, through a [`cursor`].

mod cursor;
mod native;
mod postgresml;

use std::time::Duration;

use pgml_protocol::error::sqlstate;
use sqlx::Row as _;

use crate::database::Database;
use crate::error::{Error, Kind, Result};
use crate::options::Streaming;
use crate::request::Request;
use crate::stream::RowSender;

/// What a database offers for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Our extension.
    Native,
    /// PostgresML's `transform` functions.
    PostgresMl,
}

impl Dialect {
    /// Asks a database what it speaks.
    pub async fn detect(database: &Database, timeout: Duration) -> Result<Dialect> {
        let row = database
            .fetch_one(include_str!("detect.sql"), timeout)
            .await
            .map_err(|error| error.context(database.describe()))?;
        let (native, postgresml, present) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match (native, postgresml, present) {
            (true, _, _) => Ok(Dialect::Native),
            (false, true, _) => Ok(Dialect::PostgresMl),
            (false, false, true) => Err(Error::new(
                Kind::Database,
                format!("permission denied for the functions of pgml in {}", database.describe()),
            )
            .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE)
            .hint("GRANT USAGE ON SCHEMA pgml, and EXECUTE on its functions, to this role.")),
            (false, false, false) => Err(Error::new(
                Kind::Database,
                format!("{} does not have the extension pgml", database.describe()),
            )
            .sqlstate(sqlstate::UNDEFINED_FUNCTION)
            .hint(
                "Install it with `make install-extension PG_CONFIG=…`, then run \
                 CREATE EXTENSION pgml; in this database.",
            )),
        }
    }

    /// Runs a completion, as one row or as a stream of them.
    pub async fn complete(
        self,
        database: &Database,
        request: &Request,
        stream: bool,
        streaming: Streaming,
        rows: &RowSender,
    ) -> Result<()> {
        match self {
            Dialect::Native => {
                database.run(&native::ChatCompletion { request, stream, streaming }, rows).await
            }
            Dialect::PostgresMl => database.run(&postgresml::Transform::new(request, stream)?, rows).await,
        }
    }

    /// Lists the models that the current role can call, in one row.
    pub async fn list_models(self, database: &Database, timeout: Duration, rows: &RowSender) -> Result<()> {
        match self {
            Dialect::Native => database.run(&native::Models { timeout }, rows).await,
            Dialect::PostgresMl => Err(Error::new(Kind::Database, "PostgresML keeps no list of models")
                .sqlstate(sqlstate::FEATURE_NOT_SUPPORTED)),
        }
    }
}
