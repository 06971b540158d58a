//! Commands over MQTT (`[mqtt] commands = true`): `cmd/capture`, `cmd/submit`, each answered on `cmd/<verb>/result`. Pure; what a
//! command does is given by app.rs as a [`Handler`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use crate::domain::{
    ids::{JobId, PhotoId},
    job::Lane,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `{"camera"?, "submit"?: true, "lane"?: "default"}`
    Capture { camera: Option<String>, submit: bool, lane: Lane },
    /// `{"photo_id", "lane"?: "default"}`
    Submit { photo_id: PhotoId, lane: Lane },
}

/// What came of it. `request_id`, where the command had one, is repeated beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    Done {
        photo_id: Option<PhotoId>,
        job_id: Option<JobId>,
    },
    /// A code for programs (`snake_case`) and a sentence for people, as HTTP gives them.
    Failed {
        code: String,
        message: String,
    },
}

pub type Handler = Arc<dyn Fn(Command) -> BoxFuture<'static, CommandResult> + Send + Sync>;

/// The verbs, as in the topics.
pub const VERBS: [&str; 2] = ["capture", "submit"];
/// Longest `request_id`, characters: it is repeated, not understood.
const MAX_REQUEST_ID: usize = 128;

/// A command as it came: what to do, or why not, and the sender's own id for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub request_id: Option<String>,
    pub command: Result<Command, CommandResult>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    camera: Option<String>,
    submit: Option<bool>,
    photo_id: Option<PhotoId>,
    lane: Option<Lane>,
}

/// `verb` is one of [`VERBS`]; a blank payload is an empty object. A command that is not understood is answered under its id, too.
pub fn parse(verb: &str, payload: &[u8]) -> Request {
    let payload = if payload.trim_ascii().is_empty() { b"{}" } else { payload };
    let mut said: Value = match serde_json::from_slice(payload) {
        Ok(said) => said,
        Err(error) => return Request { request_id: None, command: Err(not_understood(&error)) },
    };
    let id = said.as_object_mut().and_then(|fields| fields.remove("request_id"));
    let request_id = id.and_then(text).filter(|id| id.chars().count() <= MAX_REQUEST_ID);
    let command = serde_json::from_value(said).map_err(|error| not_understood(&error)).and_then(|body| command(verb, body));
    Request { request_id, command }
}

/// Some senders count their requests.
fn text(id: Value) -> Option<String> {
    match id {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn command(verb: &str, body: Body) -> Result<Command, CommandResult> {
    // Nobody stands and waits: commands go to the lane of folder and MQTT.
    let lane = body.lane.unwrap_or(Lane::Default);
    match (verb, body.photo_id) {
        ("capture", None) => Ok(Command::Capture { camera: body.camera, submit: body.submit.unwrap_or(true), lane }),
        ("submit", Some(photo_id)) if body.camera.is_none() && body.submit.is_none() => Ok(Command::Submit { photo_id, lane }),
        ("submit", None) => Err(invalid("The command needs a photo_id.".to_owned())),
        _ => Err(invalid("The command has a field that belongs to another command.".to_owned())),
    }
}

fn not_understood(error: &serde_json::Error) -> CommandResult {
    invalid(format!("The command is not understood: {error}."))
}

fn invalid(message: String) -> CommandResult {
    CommandResult::Failed { code: "invalid_command".to_owned(), message }
}

/// Too many run already.
pub fn busy() -> CommandResult {
    CommandResult::Failed { code: "busy".to_owned(), message: "Other commands run; send it again in a moment.".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &str = "01890000-0000-7000-8000-000000000001";

    #[test]
    fn commands_are_understood_and_get_the_default_lane() {
        assert_eq!(parse("capture", b" ").command, Ok(Command::Capture { camera: None, submit: true, lane: Lane::Default }));
        let said = parse("capture", br#"{"camera":"left","submit":false,"lane":"high_priority","request_id":"7"}"#);
        assert_eq!(said.request_id.as_deref(), Some("7"));
        assert_eq!(said.command, Ok(Command::Capture { camera: Some("left".to_owned()), submit: false, lane: Lane::HighPriority }));
        let said = parse("submit", format!(r#"{{"photo_id":"{PHOTO}"}}"#).as_bytes());
        assert_eq!(said.command, Ok(Command::Submit { photo_id: PHOTO.parse().expect("an id"), lane: Lane::Default }));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_the_reason() {
        let with_photo = format!(r#"{{"photo_id":"{PHOTO}"}}"#);
        for (verb, bad) in [
            ("submit", "{}"),
            ("submit", "{\"photo_id\":\"x\"}"),
            ("capture", "[1]"),
            ("capture", "{\"zoom\":2}"),
            ("capture", &with_photo),
        ] {
            assert!(parse(verb, bad.as_bytes()).command.is_err(), "{verb} {bad}");
        }
    }

    #[test]
    fn a_refused_command_keeps_its_id() {
        for (bad, id) in [(r#"{"photo_id":"x","request_id":"r2"}"#, "r2"), (r#"{"zoom":2,"request_id":17}"#, "17")] {
            let said = parse("submit", bad.as_bytes());
            assert_eq!((said.request_id.as_deref(), said.command.is_err()), (Some(id), true), "{bad}");
        }
    }
}
