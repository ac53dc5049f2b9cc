//! The web pages that may call the gateway.

use super::bounds::within;
use super::listen::HOSTS_MAX;
use crate::config::file::Cors;
use crate::config::problem::Report;
use crate::policy::auth::origin::{self, Pages};

/// `None` if there are none.
pub(super) fn pages(cors: &Cors, report: &mut Report<'_>) -> Option<Pages> {
    within(&["cors", "origins"], cors.origins.len(), 0, HOSTS_MAX, report);
    let mut pages = Pages::default();
    let mut origins = Vec::new();
    for (index, text) in cors.origins.iter().enumerate() {
        let at = format!("[{index}]");
        match &**text {
            "*" => pages.any = true,
            "null" => report.problem(
                &["cors", "origins", &at],
                "is what browsers send for every page without an origin; expected the origin of a page, or \"*\"",
            ),
            text => origins.extend(report.take(&["cors", "origins", &at], origin::normal(text))),
        }
    }
    pages.origins = origins.into();
    (pages.any || !pages.origins.is_empty()).then_some(pages)
}
