//! `irisd token`: who may talk to the daemon. It works on `<state>/tokens.toml`, which a running daemon reads again by itself;
//! as root it does so as the folder's owner ([`super::owner`]).

use std::{io, path::Path};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Ended, Output, configuration_unchecked, owner::become_owner_of, print};
use crate::{
    domain::{ids::UserId, time},
    http::auth::{
        Scope,
        tokens::{NewToken, Tokens},
    },
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
    let state = &config.paths.state;
    // Not made here: it would be root's, and no daemon's.
    if matches!(state.try_exists(), Ok(false)) {
        return Err(anyhow!("there is no state folder {}: start the daemon once, or set paths.state", state.display()).into());
    }
    become_owner_of(state)?;
    let tokens = Tokens::open(state)?;
    match action {
        Action::Create(a) => {
            let new = tokens.create(a.owner.clone(), a.scope, jiff::Timestamp::now())?;
            shown(a, &new).or_else(|e| {
                // Nobody has seen it, and nobody ever will.
                tokens.revoke(&new.id)?;
                Err(anyhow!("the token could not be printed ({e}); it was revoked again"))
            })?;
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

fn shown(a: &Create, new: &NewToken) -> io::Result<()> {
    if a.output.json {
        return print(json!({ "id": new.id, "owner": a.owner, "scope": a.scope, "token": new.token }));
    }
    // The token is the last word: scripts take it from there.
    print(format!("{} {}", new.id, new.token))
}
