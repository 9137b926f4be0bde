//! The web pages, embedded in the binary: the meeting page with its "where is my data" panel, and the
//! page of a node that may not be a gateway. The crate only serves static files; the script on the page
//! talks to the gateway and to LiveKit's signalling.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/index.html"));
const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/app.js"));
const STYLE: &str = include_str!(concat!(env!("OUT_DIR"), "/app.css"));
const NOT_A_GATEWAY: &str = include_str!(concat!(env!("OUT_DIR"), "/not-a-gateway.html"));
const ICON: &str = include_str!(concat!(env!("OUT_DIR"), "/icon.svg"));

/// Content-Security-Policy: the page loads only files of this server. It connects to this server over
/// HTTP and to any WebSocket address.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; worker-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

/// `/`, `/app.js`, `/app.css`, `/icon.svg`. `HEAD /` answers 200: LiveKit clients use it to check that
/// the server is reachable.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { page("text/html; charset=utf-8", INDEX) }))
        .route("/app.js", get(|| async { page("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/app.css", get(|| async { page("text/css; charset=utf-8", STYLE) }))
        .route("/icon.svg", get(|| async { page("image/svg+xml", ICON) }))
}

/// `GET /` of a node that policy approves as gateway of no institution: 403 and a page with the reason
/// `why`, without a form. It uses `/app.css` and `/icon.svg`.
#[must_use]
pub fn not_a_gateway(why: &str) -> Response {
    let body = NOT_A_GATEWAY.replace("{why}", &escaped(why));
    (StatusCode::FORBIDDEN, page("text/html; charset=utf-8", body)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
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
    fn the_reason_is_escaped_on_the_page_of_a_node_that_is_no_gateway() {
        assert_eq!(escaped("<b a=\"1\">&</b>"), "&lt;b a=&quot;1&quot;&gt;&amp;&lt;/b&gt;");
        assert!(NOT_A_GATEWAY.contains("{why}"));
    }
}
