//! What an endpoint is, read from its row.

use super::stream::form::StreamForm;
use super::table::OwnMember;
use super::{Api, Dialect, Task};

impl Api {
    /// What it is for.
    pub fn task(self) -> Task {
        self.endpoint().task
    }

    /// The dialect of its errors. The catalogue has OpenAI's unless `anthropic-version` is present.
    pub fn dialect(self) -> Dialect {
        self.endpoint().dialect
    }

    /// Its name as a metric label and in the configuration.
    pub fn name(self) -> &'static str {
        self.endpoint().name
    }

    /// Its path at a backend, up to the id if it has one. Those under `/v1` are under the URL's own `/v1`, if it ends in
    /// one; the others beside it. For the model endpoints, which are never forwarded, the path of the list.
    pub fn path(self) -> &'static str {
        self.endpoint().path
    }

    /// What follows the id in its path.
    pub fn path_end(self) -> &'static str {
        self.endpoint().path_end
    }

    /// What follows the model in its path, where that stands there; `streams`: a stream is asked for.
    pub fn path_end_behind_model(self, streams: bool) -> Option<&'static str> {
        let endpoint = self.endpoint();
        endpoint.has_model_in_path.then_some(if streams && !endpoint.path_end_stream.is_empty() {
            endpoint.path_end_stream
        } else {
            endpoint.path_end
        })
    }

    /// The query with which a backend is asked for events; empty for none.
    pub fn query_stream(self) -> &'static str {
        self.endpoint().query_stream
    }

    /// Whether the model stands in its path, not in its body.
    pub fn has_model_in_path(self) -> bool {
        self.endpoint().has_model_in_path
    }

    /// Whether a client that waits for a stream can be told that the gateway is there.
    pub fn beats(self) -> bool {
        self.streams() && self.stream().beats()
    }

    /// The one method it takes.
    pub fn method(self) -> &'static str {
        self.endpoint().method
    }

    /// Whether its path has the id of a response, which says all: it has no body that has to be read.
    pub fn has_id(self) -> bool {
        self.task() == Task::Stored
    }

    /// Whether its body may name an earlier response (`previous_response_id`).
    pub fn refers(self) -> bool {
        self.endpoint().own_member == Some(OwnMember::PreviousResponse)
    }

    /// Whether its responses have ids under which they can be asked for again.
    pub fn makes_ids(self) -> bool {
        Self::ALL.iter().any(|other| other.endpoint().served_as == Some(self))
    }

    /// Whether clients can call it and a backend responds.
    pub fn is_for_clients(self) -> bool {
        !self.is_local() && !self.endpoint().is_for_backends
    }

    /// Whether the gateway responds itself.
    pub fn is_local(self) -> bool {
        matches!(
            self.task(),
            Task::ListModels
                | Task::ShowModel
                | Task::DescribeModel
                | Task::ListLoaded
                | Task::ShowVersion
                | Task::Greet
                | Task::ShowKey
        )
    }

    /// The endpoint that a backend has to serve for this one.
    pub fn served_as(self) -> Self {
        self.endpoint().served_as.unwrap_or(self)
    }

    /// The endpoint whose requests it counts the tokens of.
    pub fn counts(self) -> Option<Self> {
        self.endpoint().counts
    }

    /// The form of its events.
    pub fn stream(self) -> &'static StreamForm {
        self.endpoint().stream
    }

    /// Whether a response may be an event stream.
    pub fn streams(self) -> bool {
        self.stream().is_known()
    }

    /// Whether a response may be an event stream that is made for it, not repeated from a stored one.
    pub fn makes_streams(self) -> bool {
        self.streams() && !self.has_id()
    }
}
