//! The page at `/`: the static files of `daemon/ui`, inside the binary.
//!
//! The files hold no secret and need no token; what they show comes over the API, which does. The policy below lets the page load and
//! ask nothing but this device, and run no script that is not one of these files: what a photo's name or a server's sentence contains
//! can never become code. Files keep their names over updates, hence `no-cache` and an ETag: a browser asks, and mostly hears 304.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

use super::error::{ApiError, Kind};

/// `blob:` and `data:` pictures are left out on purpose: the page makes none.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

struct File {
    name: &'static str,
    content_type: &'static str,
    body: &'static [u8],
    /// First 16 bytes of the body's SHA-256, quoted hex.
    etag: String,
}

macro_rules! file {
    ($name:literal, $content_type:literal) => {
        File::new($name, $content_type, include_bytes!(concat!("../../ui/", $name)))
    };
}

impl File {
    fn new(name: &'static str, content_type: &'static str, body: &'static [u8]) -> Self {
        Self { name, content_type, body, etag: format!("\"{}\"", hex::encode(&Sha256::digest(body)[..16])) }
    }
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    vec![
        file!("index.html", "text/html; charset=utf-8"),
        file!("style.css", "text/css; charset=utf-8"),
        file!("icon.svg", "image/svg+xml"),
        file!("api.js", "text/javascript; charset=utf-8"),
        file!("app.js", "text/javascript; charset=utf-8"),
        file!("camera.js", "text/javascript; charset=utf-8"),
        file!("compare.js", "text/javascript; charset=utf-8"),
        file!("dom.js", "text/javascript; charset=utf-8"),
        file!("jobview.js", "text/javascript; charset=utf-8"),
        file!("list.js", "text/javascript; charset=utf-8"),
        file!("live.js", "text/javascript; charset=utf-8"),
        file!("send.js", "text/javascript; charset=utf-8"),
        file!("texts.js", "text/javascript; charset=utf-8"),
    ]
});

/// `/` and `/ui/{file}`. Open: needs no token.
pub fn router() -> Router<()> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { serve("index.html", &headers) }))
        .route("/favicon.ico", get(|headers: HeaderMap| async move { serve("icon.svg", &headers) }))
        .route("/ui/{file}", get(|Path(name): Path<String>, headers: HeaderMap| async move { serve(&name, &headers) }))
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|f| f.name == name) else {
        return ApiError::new(Kind::NotFound, "there is nothing at this address").into_response();
    };
    let known = asked.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|tags| has_tag(tags, &file.etag));
    let mut answer = if known { StatusCode::NOT_MODIFIED.into_response() } else { file.body.into_response() };
    let h = answer.headers_mut();
    h.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    h.insert(header::ETAG, HeaderValue::from_str(&file.etag).expect("quoted hex is a header value"));
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        h.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// RFC 9110, 13.1.2: a list of tags, or `*`; the weak mark of a proxy does not matter for a GET.
fn has_tag(tags: &str, ours: &str) -> bool {
    tags.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == ours)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn get_with(path: &str, if_none_match: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        router().oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible")
    }

    #[tokio::test]
    async fn the_page_and_its_files_come_with_a_policy_and_are_not_sent_twice() {
        let first = get_with("/", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let tag = first.headers()[header::ETAG].to_str().expect("ascii").to_owned();
        assert_eq!(get_with("/", Some(&format!("\"other\", W/{tag}"))).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get_with("/", Some("\"other\"")).await.status(), StatusCode::OK);
        assert_eq!(get_with("/ui/../Cargo.toml", None).await.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_binary() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let mut there: Vec<_> =
            std::fs::read_dir(folder).expect("daemon/ui").map(|e| e.expect("entry").file_name().into_string().expect("utf-8")).collect();
        let mut ours: Vec<_> = FILES.iter().map(|f| f.name.to_owned()).collect();
        there.sort();
        ours.sort();
        assert_eq!(there, ours);
    }

    #[test]
    fn the_page_has_nothing_inline_and_names_no_outside_address() {
        for f in FILES.iter() {
            let text = std::str::from_utf8(f.body).expect("utf-8");
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{} names an outside address", f.name);
            if f.name == "index.html" {
                assert!(!text.contains("style=") && !text.contains("onclick=") && !text.contains("<style"), "inline style or script");
                assert_eq!(text.matches("<script").count(), 1, "one script, by src");
            }
        }
    }
}
