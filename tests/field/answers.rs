//! What a backend calls a success and is none: errors inside a 200, streams without an end, odd records.
