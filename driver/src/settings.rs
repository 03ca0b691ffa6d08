//! The environment, read once: where sockets and state live. Nothing else reads environment variables.
