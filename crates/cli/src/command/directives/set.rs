//! `tidewatch directives set`: one directive.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tidewatch_directives::{Attribute, Directive, Level};

use super::{attribute, changed, rejected};
use crate::connection::Connection;
use crate::failure::Result;

/// Add a directive, or replace the one of its id
///
/// It applies to what has all attributes that are named with --match, for as long as it lives, in every process that
/// follows this server's directives. Its life begins now.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group = clap::ArgGroup::new("life").required(true))]
pub(crate) struct Args {
    /// Its id: unique, at most 128 bytes
    id: String,
    /// How much is said: off, error, warn, info, debug or trace
    #[arg(long)]
    level: Level,
    /// What it applies to: host, workload, role, component or principal; can be repeated, and all must be equal
    #[arg(long = "match", value_name = "NAME=VALUE", value_parser = attribute)]
    matches: Vec<(Attribute, String)>,
    /// A switch that is on for what it applies to; can be repeated
    #[arg(long = "flag", value_name = "FLAG")]
    flags: Vec<String>,
    /// To how many requests in a thousand it applies [default: all]
    #[arg(long, value_name = "PER_MILLE", value_parser = clap::value_parser!(u16).range(0..=1000))]
    sample: Option<u16>,
    /// How long it lives, as in 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, group = "life")]
    ttl: Option<Duration>,
    /// Until when it lives, as in 2026-11-21T03:12:00Z
    #[arg(long, value_name = "TIME", group = "life")]
    expires_at: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch directives set slow --level debug --match workload=shop --match role=web --ttl 15m
  tidewatch directives set why --level trace --match component=reconciler --ttl 1h
  tidewatch directives set few --level debug --match component=http --sample 10 --flag dump --ttl 5m";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let json = args.json().to_string();
    Directive::decode(json.as_bytes()).map_err(|rejection| rejected(&rejection))?;
    let client = connection.open().await?;
    let revision = client.set_directive(json.as_bytes()).await?;
    changed(&connection, revision.0)
}

impl Args {
    fn json(&self) -> Value {
        let mut matches = Map::new();
        for (attribute, value) in &self.matches {
            matches.insert(attribute.to_string(), json!(value));
        }
        let mut directive = json!({"id": self.id, "level": self.level.as_str(), "match": matches});
        if !self.flags.is_empty() {
            directive["flags"] = json!(self.flags);
        }
        if let Some(rate) = self.sample {
            directive["sample_per_mille"] = json!(rate);
        }
        if let Some(ttl) = self.ttl {
            directive["ttl_secs"] = json!(ttl.as_secs());
        }
        if let Some(end) = &self.expires_at {
            directive["expires_at"] = json!(end);
        }
        directive
    }
}
