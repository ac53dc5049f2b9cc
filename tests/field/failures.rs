//! What a failure says about whom: statuses, pauses and breakers by deployment, and failing over.
