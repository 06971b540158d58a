//! Every address and its handler, in one table. A test holds `/openapi.json` to it.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    middleware,
    routing::{self, MethodRouter},
};

use super::{
    Api, capture, device, docs,
    error::{ApiError, Kind},
    events, health, layers, photos, processing, results, session, ui, ws,
};

/// One method of one address.
struct Op {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test that holds the document to this table reads it"))]
    method: &'static str,
    path: &'static str,
    route: MethodRouter<Arc<Api>>,
}

fn get<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, handler: H) -> Op {
    Op { method: "get", path, route: routing::get(handler) }
}

fn post<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, handler: H) -> Op {
    Op { method: "post", path, route: routing::post(handler) }
}

fn delete<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, handler: H) -> Op {
    Op { method: "delete", path, route: routing::delete(handler) }
}

fn table() -> Vec<Op> {
    vec![
        post("/api/v1/photos", photos::upload),
        get("/api/v1/photos", photos::list),
        get("/api/v1/photos/{id}", photos::get),
        get("/api/v1/photos/{id}/image", photos::image),
        delete("/api/v1/photos/{id}", photos::delete),
        post("/api/v1/processing/submit", processing::submit),
        post("/api/v1/processing/batch", processing::batch),
        get("/api/v1/processing/jobs", processing::list),
        get("/api/v1/processing/jobs/{id}", processing::get),
        post("/api/v1/processing/jobs/{id}/reprocess", processing::reprocess),
        post("/api/v1/processing/jobs/{id}/cancel", processing::cancel),
        get("/api/v1/results/{job_id}/{file}", results::file),
        post("/api/v1/capture", capture::capture),
        get("/api/v1/cameras", capture::cameras),
        get("/api/v1/cameras/{name}/preview", capture::preview),
        get("/api/v1/events", events::sse),
        get("/api/v1/ws", ws::upgrade),
        get("/api/v1/device", device::device),
        get("/api/v1/queue", device::queue),
        get("/api/v1/uploads", device::uploads),
        get("/api/v1/session", session::get),
        post("/api/v1/session", session::begin),
        delete("/api/v1/session", session::end),
        get("/livez", health::live),
        get("/readyz", health::ready),
        get("/startupz", health::started),
        get("/metrics", health::metrics),
        get("/openapi.json", docs::openapi),
        get("/docs", docs::page),
        get("/docs/docs.js", docs::script),
        get("/docs/docs.css", docs::style),
    ]
}

pub fn router(api: Arc<Api>) -> Router {
    let calls = table().into_iter().fold(Router::new(), |router, op| router.route(op.path, op.route));
    with_refusals(calls.with_state(api.clone()).merge(ui::router()))
        .layer(DefaultBodyLimit::disable()) // each handler has its own, stricter one
        .layer(middleware::from_fn_with_state(api, layers::around))
}

/// Problems for what no handler answers.
fn with_refusals(router: Router) -> Router {
    router
        .fallback(async || ApiError::new(Kind::NotFound, "there is nothing at this address"))
        .method_not_allowed_fallback(async || ApiError::new(Kind::MethodNotAllowed, "see the Allow header"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_no_handler_answers_is_a_problem_and_405_names_the_methods() {
        let router = with_refusals(Router::new().route("/here", routing::get(async || "hello").post(async || "hello")));
        for (method, path, status) in [("PUT", "/here", 405), ("GET", "/nowhere", 404), ("GET", "/here", 200)] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            let Ok(response) = router.clone().oneshot(request).await;
            assert_eq!(response.status().as_u16(), status);
            if status != 200 {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
            }
            assert_eq!(response.headers().get("allow").map(|v| v.to_str().expect("text")), (status == 405).then_some("GET,HEAD,POST"));
        }
    }

    #[test]
    fn the_openapi_document_has_every_address_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in item.as_object().expect("methods").keys().filter(|m| *m != "parameters") {
                documented.insert(format!("{method} {path}"));
            }
        }
        let assets = ["/docs/docs.js", "/docs/docs.css"];
        let served: BTreeSet<_> =
            table().iter().filter(|op| !assets.contains(&op.path)).map(|op| format!("{} {}", op.method, op.path)).collect();
        assert_eq!(served, documented);
    }

    #[test]
    fn the_openapi_document_names_every_error_code_and_its_references_lead_somewhere() {
        let text = include_str!("openapi.json");
        let document: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let codes = document["x-error-codes"].as_object().expect("codes");
        let ours: BTreeSet<_> = Kind::ALL.iter().map(|k| (k.code().to_owned(), u64::from(k.status().as_u16()))).collect();
        let listed: BTreeSet<_> = codes.iter().map(|(code, row)| (code.clone(), row["status"].as_u64().expect("a status"))).collect();
        assert_eq!(ours, listed);
        for reference in text.split("\"$ref\": \"#").skip(1).map(|s| s.split('"').next().expect("an end")) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
    }
}
