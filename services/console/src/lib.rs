//! The web pages, embedded in the binary: the meeting page with its "where is my data" panel.
//! It serves files and nothing else: it knows no room, no token and no node.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/index.html"));
const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/app.js"));
const STYLE: &str = include_str!(concat!(env!("OUT_DIR"), "/app.css"));
const CLOSED: &str = include_str!(concat!(env!("OUT_DIR"), "/closed.html"));
const ICON: &str = include_str!(concat!(env!("OUT_DIR"), "/icon.svg"));

/// The page may load only what this server serves, and may connect only to it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; worker-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

/// `/`, `/app.js`, `/app.css`, `/icon.svg`. `HEAD /` answers 200, which LiveKit clients use to see
/// whether a server is there.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { page("text/html; charset=utf-8", INDEX) }))
        .route("/app.js", get(|| async { page("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/app.css", get(|| async { page("text/css; charset=utf-8", STYLE) }))
        .route("/icon.svg", get(|| async { page("image/svg+xml", ICON) }))
}

/// `/` of a node that may be front door of nobody: why there is no meeting page, and nothing that
/// asks for a name. `HEAD /` still answers 200.
pub fn closed<S: Clone + Send + Sync + 'static>(why: &str) -> Router<S> {
    let body: &'static str = CLOSED.replace("{why}", &escaped(why)).leak();
    let closed = move || async move {
        (StatusCode::FORBIDDEN, page("text/html; charset=utf-8", body)).into_response()
    };
    Router::new()
        .route("/", get(closed).head(|| async { StatusCode::OK }))
        .route("/app.css", get(|| async { page("text/css; charset=utf-8", STYLE) }))
        .route("/icon.svg", get(|| async { page("image/svg+xml", ICON) }))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(kind: &'static str, body: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_says_is_text_on_the_closed_page() {
        assert_eq!(escaped("<b a=\"1\">&</b>"), "&lt;b a=&quot;1&quot;&gt;&amp;&lt;/b&gt;");
        assert!(CLOSED.contains("{why}"));
    }
}
