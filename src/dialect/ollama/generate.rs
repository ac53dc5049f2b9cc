//! `/api/generate`: one prompt instead of a conversation. Its responses have the text in other members; everything else is
//! that of `/api/chat`.

/// From `/api/generate` into the neutral form.
pub mod decode {
    pub use super::super::decode::{Events, body, fault, generate_request as request};
}

/// From the neutral form into responses of `/api/generate`.
pub mod encode {
    use super::super::Shape;
    pub use super::super::encode::fault;
    use super::super::encode::{self, Lines};
    use crate::dialect::neutral::{Context, Event, HeldTooMuch, Losses, Request, Target, unsupported};
    use crate::error::Fault;

    /// Encoder of one stream.
    #[derive(Clone, Debug)]
    pub struct Events(Lines);

    impl Events {
        /// The encoder of a stream that begins.
        pub fn new(context: Context) -> Self {
            Self(Lines::new(context, Shape::Generate))
        }

        /// Appends what a client is to hear of an event, whole lines only.
        ///
        /// # Errors
        /// Arguments of a tool call are longer than may be held.
        pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
            self.0.event(event, out)
        }
    }

    /// A whole response for a client, folded from events.
    #[derive(Clone, Debug)]
    pub struct Body(encode::Whole);

    impl Body {
        /// A response of which nothing has come.
        pub fn new(context: Context) -> Self {
            Self(encode::Whole::new(context, Shape::Generate))
        }

        /// Takes an event in.
        ///
        /// # Errors
        /// The response is longer than may be held.
        pub fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
            self.0.event(event)
        }

        /// Appends the response; false, and nothing is appended, if it has not come to its end.
        pub fn finish(self, out: &mut Vec<u8>) -> bool {
            self.0.finish(out)
        }
    }

    /// Refuses: a conversation is not sent to this endpoint, but to `/api/chat`.
    ///
    /// # Errors
    /// Always.
    pub fn request(_: &Request<'_>, _: &Target<'_>, _: &mut Vec<u8>) -> Result<Losses, Fault> {
        Err(unsupported("messages", "cannot be sent to a backend that serves 'ollama_generate' only"))
    }
}
