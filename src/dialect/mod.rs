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

/// Client and extension fit if they have the same major version.
fn check_version(extension: Option<&str>, database: &str) -> Result<()> {
    let client = env!("CARGO_PKG_VERSION");
    let major = |version: &str| version.split('.').next().and_then(|number| number.parse::<u32>().ok());
    // Functions without an extension around them are somebody's own arrangement.
    let Some((extension, theirs)) = extension.and_then(|version| Some((version, major(version)?))) else {
        return Ok(());
    };
    let ours = major(client).unwrap_or_default();
    if theirs == ours {
        return Ok(());
    }
    let (relation, hint) = if theirs < ours {
        (
            "too old for",
            "Install the new version's files on the server, then run ALTER EXTENSION pgml UPDATE; in this database.",
        )
    } else {
        ("too new for", "Upgrade the client: pip install --upgrade pgml.")
    };
    Err(Error::new(
        Kind::Database,
        format!(
            "the extension pgml {extension} in {database} is {relation} this client, which is pgml {client}"
        ),
    )
    .sqlstate(sqlstate::FEATURE_NOT_SUPPORTED)
    .hint(hint))
}

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
            (true, _, _) => {
                let extension: Option<String> = row.try_get(3)?;
                check_version(extension.as_deref(), database.describe())?;
                Ok(Dialect::Native)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fit_by_their_first_number() {
        let ours: u32 = env!("CARGO_PKG_VERSION").split('.').next().unwrap().parse().unwrap();
        check_version(None, "db").unwrap();
        check_version(Some(&format!("{ours}.7.1")), "db").unwrap();
        let old = check_version(Some("2.0.0"), "db").unwrap_err();
        assert!(old.message.contains("2.0.0 in db is too old"), "{old}");
        assert!(old.hint.unwrap().contains("ALTER EXTENSION pgml UPDATE"));
        let new = check_version(Some(&format!("{}.0.0", ours + 1)), "db").unwrap_err();
        assert!(new.message.contains("too new"), "{new}");
        assert!(new.hint.unwrap().contains("pip install"));
    }
}
