//! Phrases of prompt injections and jailbreaks, version 1. A heuristic: it finds the clumsy and misses the clever.

pub(super) const SOURCES: &[&str] = &[
    r"(?i)(?-u:\b)(?:ignore|disregard|forget|override|bypass)[ \t\r\n]{1,3}(?:(?:all|any|every|everything|of|the|your|my|these|those|and|previous|prior|above|earlier|preceding|foregoing|original|initial|system|safety|given)[ \t\r\n]{1,3}){1,5}(?:instructions?|prompts?|rules?|guidelines?|directions?|directives?|commands?|context|messages?|training|policies|restrictions|constraints)(?-u:\b)",
    r"(?i)(?-u:\b)(?:reveal|show|print|repeat|output|display|leak|disclose|tell[ \t\r\n]{1,3}me)[ \t\r\n]{1,3}(?:(?:me|us|all|of|the|your|full|entire|exact|complete|hidden|secret|initial|original)[ \t\r\n]{1,3}){1,5}(?:system[ \t\r\n]{1,3}(?:prompt|message|instructions?)|developer[ \t\r\n]{1,3}message|hidden[ \t\r\n]{1,3}instructions?|initial[ \t\r\n]{1,3}(?:prompt|instructions?))(?-u:\b)",
    r"(?i)(?-u:\b)you[ \t\r\n]{1,3}are[ \t\r\n]{1,3}(?:now[ \t\r\n]{1,3})?(?:DAN|in[ \t\r\n]{1,3}developer[ \t\r\n]{1,3}mode|jailbroken|unrestricted|no[ \t\r\n]{1,3}longer[ \t\r\n]{1,3}bound)(?-u:\b)",
    r"(?i)(?-u:\b)do[ \t\r\n]{1,3}anything[ \t\r\n]{1,3}now(?-u:\b)",
    r"(?i)(?-u:\b)(?:enable|activate|enter|switch[ \t\r\n]{1,3}to)[ \t\r\n]{1,3}(?:developer|debug|god|dan|jailbreak|unrestricted|sudo)[ \t\r\n]{1,3}mode(?-u:\b)",
    r"(?i)(?-u:\b)(?:pretend|act|respond|behave|answer)[ \t\r\n]{1,3}(?:as[ \t\r\n]{1,3}(?:if|though)[ \t\r\n]{1,3})?(?:you[ \t\r\n]{1,3})?(?:have|had|with|without)[ \t\r\n]{1,3}(?:no|any)[ \t\r\n]{1,3}(?:restrictions|rules|filters|guidelines|limits|limitations|ethics|morals|safety)(?-u:\b)",
    r"(?i)(?-u:\b)(?:new|updated|real|actual)[ \t\r\n]{1,3}(?:system[ \t\r\n]{1,3})?instructions?[ \t\r\n]{0,3}:[ \t\r\n]{0,3}(?:you|ignore|from)(?-u:\b)",
    r"(?i)<\|(?:im_start|im_end|system|endoftext|eot_id|start_header_id|end_header_id)\|>",
    r"(?i)\[/?(?:INST|SYS|SYSTEM)\]|<</?SYS>>",
    r"(?i)(?-u:\b)from[ \t\r\n]{1,3}now[ \t\r\n]{1,3}on[ \t\r\n,]{1,4}you[ \t\r\n]{1,3}(?:will|must|are|shall)[ \t\r\n]{1,3}(?:only[ \t\r\n]{1,3})?(?:ignore|obey|no[ \t\r\n]{1,3}longer|not[ \t\r\n]{1,3}follow)(?-u:\b)",
];
