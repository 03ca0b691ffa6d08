//! Which calls need a pod, and which are answered here.

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// gRPC's health check: the daemon answers for itself.
    Health,
    /// BuildKit's version: from what the pods said when they were last seen.
    Info,
    /// The workers: likewise, so that `ls` and `inspect` never start a pod.
    ListWorkers,
    /// The build itself.
    Solve,
    /// A build's progress.
    Status,
    /// A call by which a client drives its build.
    Bridge,
    /// What pods keep: asked of all of them, or of the one that has it. None is started to be asked.
    DiskUsage,
    Prune,
    ListenHistory,
    UpdateHistory,
    Content,
    /// A client's own traces, which it sends at its end whatever it did: they go where its build went, or nowhere.
    Traces,
    /// The stream that tunnels the client's own services.
    Session,
    /// All the rest: for a pod that may know it.
    Other,
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/grpc.health.v1.Health/Check" => Self::Health,
            "/moby.buildkit.v1.Control/Info" => Self::Info,
            "/moby.buildkit.v1.Control/ListWorkers" => Self::ListWorkers,
            "/moby.buildkit.v1.Control/Solve" => Self::Solve,
            "/moby.buildkit.v1.Control/Status" => Self::Status,
            "/moby.buildkit.v1.Control/DiskUsage" => Self::DiskUsage,
            "/moby.buildkit.v1.Control/Prune" => Self::Prune,
            "/moby.buildkit.v1.Control/ListenBuildHistory" => Self::ListenHistory,
            "/moby.buildkit.v1.Control/UpdateBuildHistory" => Self::UpdateHistory,
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Self::Traces,
            "/moby.buildkit.v1.Control/Session" => Self::Session,
            _ if path.starts_with("/containerd.services.content.v1.Content/") => Self::Content,
            _ if path.starts_with("/moby.buildkit.v1.frontend.LLBBridge/") => Self::Bridge,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_way() {
        for (path, route) in [
            ("/grpc.health.v1.Health/Check", Route::Health),
            ("/moby.buildkit.v1.Control/Info", Route::Info),
            ("/moby.buildkit.v1.Control/ListWorkers", Route::ListWorkers),
            ("/moby.buildkit.v1.Control/DiskUsage", Route::DiskUsage),
            ("/moby.buildkit.v1.Control/Prune", Route::Prune),
            ("/moby.buildkit.v1.Control/ListenBuildHistory", Route::ListenHistory),
            ("/moby.buildkit.v1.Control/UpdateBuildHistory", Route::UpdateHistory),
            ("/containerd.services.content.v1.Content/Read", Route::Content),
            ("/containerd.services.content.v1.Content/Write", Route::Content),
            ("/moby.buildkit.v1.Control/Session", Route::Session),
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Route::Traces),
            ("/moby.buildkit.v1.Control/Solve", Route::Solve),
            ("/moby.buildkit.v1.Control/Status", Route::Status),
            ("/moby.buildkit.v1.frontend.LLBBridge/Ping", Route::Bridge),
            ("/moby.buildkit.v1.frontend.LLBBridge/Solve", Route::Bridge),
            ("/some.new.Service/Method", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
