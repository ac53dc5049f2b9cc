//! Amazon Bedrock's Converse and ConverseStream, for backends only: no client speaks it.
//!
//! The model stands in the path. A stream comes as messages of AWS's event stream encoding (`wire::event_stream`), each with
//! one JSON object; usage comes in the last one, after the reason for the stop. Roles alternate, results of tools come first in
//! their turn, and a history with calls needs tools declared.
//!
//! A JSON schema for the output is a tool that the model has to call (`OUTPUT_TOOL`): its arguments are the text.
//!
//! Sources: Amazon Bedrock's API reference (`Converse`, `ConverseStream`, `ContentBlock`), and its user guide on inference
//! parameters of Anthropic's models.

pub mod decode;
pub mod encode;

#[cfg(test)]
mod tests;

/// The tool whose arguments are the output in the form that the client asked for.
const OUTPUT_TOOL: &str = "ringway_json_output";
