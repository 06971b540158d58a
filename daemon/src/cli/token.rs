//! `irisd token`: who may talk to the daemon. It works on `<state>/tokens.toml`, which a running daemon reads again by itself;
//! as root it does so as the folder's owner ([`super::owner`]).

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Ended, Output, configuration_unchecked, owner::become_owner_of, print};
use crate::{
    domain::{ids::UserId, time},
    http::auth::{Scope, tokens::Tokens},
};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print a new token, once; only its hash is kept.
    Create(Create),
    /// Who has a token.
    List(Output),
    /// A token counts no more, at once.
    Revoke { id: String },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whom the photos belong to that come with it: a-z, 0-9, . _ -
    #[arg(long)]
    owner: UserId,
    /// kiosk: own photos and jobs, capture. viewer: reads everything. admin: everything.
    #[arg(long)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

pub(super) fn token(config: Option<&Path>, action: &Action) -> Ended {
    let config = configuration_unchecked(config)?;
    become_owner_of(&config.paths.state)?;
    let tokens = Tokens::open(&config.paths.state)?;
    match action {
        Action::Create(a) => {
            let new = tokens.create(a.owner.clone(), a.scope, jiff::Timestamp::now())?;
            if a.output.json {
                print(json!({ "id": new.id, "owner": a.owner, "scope": a.scope, "token": new.token }))?;
            } else {
                // The token is the last word: scripts take it from there.
                print(format!("{} {}", new.id, new.token))?;
            }
        }
        Action::List(output) => {
            let rows = tokens.list()?;
            if output.json {
                let rows =
                    rows.iter().map(|r| json!({ "id": r.id, "owner": r.owner, "scope": r.scope, "created_at": time::text(r.created_at) }));
                return Ok(print(json!(rows.collect::<Vec<_>>()))?);
            }
            for row in rows {
                let scope = serde_json::to_value(row.scope)?;
                print(format!("{}  {:<7} {}  {}", row.id, scope.as_str().unwrap_or_default(), time::text(row.created_at), row.owner))?;
            }
        }
        Action::Revoke { id } => {
            tokens.revoke(id)?;
            print(format!("{id} counts no more"))?;
        }
    }
    Ok(())
}
