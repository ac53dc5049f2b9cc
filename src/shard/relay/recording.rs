//! What passes is recorded where the cache keeps it or other requests wait for it.

use super::Relay;
use crate::units::Span;

impl Relay<'_> {
    /// The response was opened: whether it can be recorded is known now.
    pub(super) fn record_head(&mut self) {
        let (head, buffer) = (&self.response.head, &self.response.buffer);
        let is_kept = head.status == 200
            && !head.is_coded(buffer)
            // A stream is none for a request that wants no stream, nor the other way round.
            && head.event_stream == self.exchange.wants_stream
            && self.exchange.fallback_for.is_none()
            && !self.exchange.renames_ids;
        let Some(caching) = &mut self.exchange.caching else { return };
        if !is_kept {
            return caching.end();
        }
        let media_type = head.content_type.map_or(&b"application/json"[..], |span| span.of(buffer));
        caching.open(media_type, self.exchange.dropped.as_deref(), head.event_stream);
    }

    /// The client gets these pieces of `buffer`.
    #[inline]
    pub(super) fn record(&mut self, buffer: &[u8], pieces: &[Span]) {
        if self.is_recorded
            && let Some(caching) = &mut self.exchange.caching
        {
            let sequence = self.inspector.next_sequence();
            pieces.iter().for_each(|piece| caching.append(piece.of(buffer), sequence));
        }
    }

    /// The response has come to its end, and its usage is known.
    pub(super) fn record_end(&mut self) {
        let Some(caching) = &mut self.exchange.caching else { return };
        if self.inspector.errored() {
            return caching.end();
        }
        caching.append(self.inspector.missing_end().unwrap_or_default(), None);
        caching.finish(self.exchange.usage.input + self.exchange.usage.output);
    }
}
