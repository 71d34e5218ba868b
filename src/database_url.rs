//! Which database a client asks: the URL, and where it was said.

use std::borrow::Cow;
use std::env;

use crate::error::{Error, Kind, Result};

/// The environment variables that may hold the URL, in the order in which they count.
pub const VARIABLES: [&str; 2] = ["DATABASE_URL", "PGML_DATABASE_URL"];

/// What other libraries call the scheme of the same URL (django-environ, dj-database-url).
const ALIASES: [&str; 4] = ["postgres", "psql", "pgsql", "postgis"];

/// A URL of a PostgreSQL database.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// It may hold a password, so it is never printed.
    pub url: String,
    /// Where it was said: an argument's name, or a variable's.
    pub source: &'static str,
}

impl DatabaseUrl {
    /// The URL of an argument, or else of the environment. `None` where neither has one.
    pub fn find(argument: Option<&str>) -> Result<Option<DatabaseUrl>> {
        if let Some(url) = argument.filter(|url| !url.is_empty()) {
            return DatabaseUrl::new(url, "database_url").map(Some);
        }
        let set = VARIABLES.iter().find_map(|name| {
            let url = env::var(name).ok().filter(|url| !url.is_empty())?;
            Some((*name, url))
        });
        set.map(|(source, url)| DatabaseUrl::new(&url, source)).transpose()
    }

    /// Checks the scheme. The rest is checked where it is used.
    pub fn new(url: &str, source: &'static str) -> Result<DatabaseUrl> {
        let url = with_our_scheme(url.trim()).map_err(|problem| {
            Error::new(Kind::Configuration, format!("{source}: {problem}"))
                .hint("It must look like postgresql://user:password@host:5432/database.")
        })?;
        Ok(DatabaseUrl { url: url.into_owned(), source })
    }
}

/// The URL under the scheme `postgresql`, or what is wrong with it. Only the scheme is repeated: the
/// rest may hold a password.
fn with_our_scheme(url: &str) -> std::result::Result<Cow<'_, str>, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(match url.contains('=') {
            true => "must be a URL, not a list of keywords".into(),
            false => "is not a valid URL".into(),
        });
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme == "postgresql" && url.starts_with(&scheme) {
        return Ok(url.into());
    }
    // SQLAlchemy adds the driver: postgresql+asyncpg.
    let name = scheme.split_once('+').map_or(scheme.as_str(), |(name, _)| name);
    match name == "postgresql" || ALIASES.contains(&name) {
        true => Ok(format!("postgresql://{rest}").into()),
        false
            if scheme.len() <= 40
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c)) =>
        {
            Err(format!("is the URL of another kind of database, {scheme}: pgml asks PostgreSQL"))
        }
        false => Err("is not a valid URL".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_known_by_its_other_names() {
        for url in [
            "postgresql://u:p@h/d",
            "postgres://u:p@h/d",
            "POSTGRES://u:p@h/d",
            "postgresql+asyncpg://u:p@h/d",
            "postgresql+psycopg2://u:p@h/d",
            "postgis://u:p@h/d",
            " postgresql://u:p@h/d\n",
        ] {
            assert_eq!(DatabaseUrl::new(url, "x").unwrap().url, "postgresql://u:p@h/d");
        }
    }

    #[test]
    fn another_database_is_refused_by_name() {
        for (url, word) in [
            ("sqlite:///db.sqlite3", "sqlite"),
            ("mysql+aiomysql://u:secret@h/d", "mysql+aiomysql"),
            ("redis://:secret@h/0", "redis"),
            ("mongodb+srv://u:secret@h", "mongodb+srv"),
            ("jdbc:oracle://u:secret@h", "jdbc:oracle"),
            ("http://h/v1", "http"),
            ("host=h password=secret", "keywords"),
            ("h/d", "not a valid URL"),
            ("u:secret@h://", "not a valid URL"),
        ] {
            let error = DatabaseUrl::new(url, "DATABASE_URL").err().unwrap();
            assert!(error.message.starts_with("DATABASE_URL: "), "{}", error.message);
            assert!(error.message.contains(word), "{}", error.message);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
