//! A generation becoming an answer: whole, or record by record.

use super::{Server, error_page};
use crate::chance::Chance;
use crate::gpusim::fault::Fault;
use crate::gpusim::metrics::add;
use crate::gpusim::reply::{Ending, Page, Reply};
use crate::gpusim::text::word;
use crate::gpusim::ticker::Ticket;
use crate::gpusim::voice::{Finish, Usage, Voice};

/// A job and how its tokens become an answer.
pub(super) struct Generation {
    pub(super) ticket: Ticket,
    pub(super) voice: Box<dyn Voice>,
    pub(super) usage: Usage,
    pub(super) finish: Finish,
    pub(super) chance: Chance,
}

impl Generation {
    /// The next token's text; `None` after the last. Keeps the usage up to date.
    async fn next(&mut self) -> Option<&'static str> {
        while let Some(progress) = self.ticket.next().await {
            self.usage.cached = progress.cached_tokens;
            if progress.generated > self.usage.completion {
                self.usage.completion = progress.generated;
                return Some(word(&mut self.chance));
            }
        }
        None
    }
}

impl Server {
    pub(super) async fn say_whole(&self, reply: Reply<'_>, mut generation: Generation) -> Ending {
        let mut text = String::new();
        while let Some(spoken) = match reply.wire.unless_gone(generation.next()).await {
            Some(spoken) => spoken,
            None => return Ending::ClientGone,
        } {
            text.push_str(spoken);
        }
        if matches!(reply.fault, Some(Fault::ErrorEventAfter { .. } | Fault::ErrorFirstRecord)) {
            return reply.page(error_page(500, "InternalServerError", "simulated engine failure")).await;
        }
        let answer = generation.voice.whole(&text, generation.finish, generation.usage);
        let ending = reply.page(Page::json(200, &answer)).await;
        if ending == Ending::Whole {
            self.count_finish(&generation);
        }
        ending
    }

    pub(super) async fn say_streaming(&self, mut reply: Reply<'_>, mut generation: Generation) -> Ending {
        let mut stream = match reply.stream().await {
            Ok(stream) => stream,
            Err(ending) => return ending,
        };
        let mut opened = false;
        loop {
            let Some(spoken) = reply.wire.unless_gone(generation.next()).await else {
                return Ending::ClientGone;
            };
            let usage = generation.usage;
            let mut records = Vec::new();
            if !opened {
                opened = true;
                records = generation.voice.opening(Usage { completion: 0, ..usage });
            }
            match spoken {
                Some(text) => records.extend(generation.voice.token(text, usage)),
                None => records.extend(generation.voice.closing(generation.finish, usage)),
            }
            for record in &records {
                let error_at = match reply.fault {
                    Some(Fault::ErrorFirstRecord) => Some(0),
                    Some(Fault::ErrorEventAfter { events }) => Some(events),
                    _ => None,
                };
                if error_at == Some(stream.events) {
                    for record in generation.voice.error() {
                        if let Err(ending) = reply.record(&mut stream, &record).await {
                            return ending;
                        }
                    }
                    return match reply.end(stream).await {
                        Ending::Whole => Ending::Faulted,
                        ending => ending,
                    };
                }
                if let Err(ending) = reply.record(&mut stream, record).await {
                    return ending;
                }
                add(&self.counts.events, 1);
            }
            if spoken.is_none() {
                break;
            }
            add(&self.counts.tokens, 1);
        }
        let ending = reply.end(stream).await;
        if ending == Ending::Whole {
            self.count_finish(&generation);
        }
        ending
    }

    fn count_finish(&self, generation: &Generation) {
        let count =
            if generation.finish == Finish::Stop { &self.counts.stopped } else { &self.counts.at_length };
        add(count, 1);
    }
}
