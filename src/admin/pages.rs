//! The dashboard's files, as `scripts/dashboard` built them; without it, `/` is the plain page.
//!
//! Files are compressed in the program and sent as they are; a caller that does not take gzip gets them expanded. Their
//! names change with their content, so they may be kept for good; the page that names them is asked for each time.

use std::io::Read;

use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;

/// A file of the dashboard.
struct File {
    /// Its name below `/assets/`; `index.html` is served at `/`.
    name: &'static str,
    /// Its content in gzip.
    gzip: &'static [u8],
}

// `const FILES: &[File]`, in the order of the names; empty where the dashboard was not built.
include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Whether this program has a dashboard beyond the plain page.
pub(super) const fn is_built() -> bool {
    !FILES.is_empty()
}

/// `/`: the dashboard, or where the plain page is.
pub(super) async fn index(State(_): State<Shared>, headers: HeaderMap) -> Response {
    match find("index.html") {
        Some(file) => send(file, &headers, "no-cache"),
        None => (StatusCode::FOUND, [(LOCATION, "/plain"), (CACHE_CONTROL, "no-store")]).into_response(),
    }
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(&name).filter(|file| file.name != "index.html") {
        Some(file) => send(file, &headers, "public, max-age=31536000, immutable"),
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

fn send(file: &'static File, headers: &HeaderMap, cache: &'static str) -> Response {
    // The trailer of gzip holds the check sum and the length of the content.
    let tag: String = file.gzip.iter().rev().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let mut response = if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(headers) {
        ([(CONTENT_ENCODING, "gzip")], file.gzip).into_response()
    } else {
        let mut plain = Vec::new();
        match flate2::read::GzDecoder::new(file.gzip).read_to_end(&mut plain) {
            Ok(_) => plain.into_response(),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(), // the build wrote it
        }
    };
    let lines = response.headers_mut();
    lines.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(file.name)));
    lines.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    lines.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        lines.insert(ETAG, tag);
    }
    response
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        name.eq_ignore_ascii_case("gzip") && !refused
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (line, takes) in [
            ("gzip, deflate, br", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("xgzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(line));
            assert_eq!(takes_gzip(&headers), takes, "{line}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_dashboard_fits_its_budget() {
        let bytes: usize = FILES.iter().map(|file| file.gzip.len()).sum();
        assert!(bytes <= 150 * 1024, "{bytes} bytes in gzip");
    }
}
