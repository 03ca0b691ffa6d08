//! What is refused in a request for a Job, and what becomes of one that is not.
