//! What local pods use, as the kernel counts it for their processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backend::PodUsage;
use crate::builder::PodName;

/// Between two looks at the processes' time: the kernel counts it in hundredths of a second.
const LOOK: Duration = Duration::from_millis(500);

/// The kernel's unit of a process's time, which is the same on every architecture that Linux shows it on.
const TICKS: f64 = 100.0;

/// A process as /proc shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Of its own and of its children that are gone, in ticks.
    time: u64,
    pages: u64,
}

/// What the pods use, each known by the directory of its state, which its command line names.
pub(super) async fn usage(pods: Vec<(PodName, PathBuf)>) -> Vec<PodUsage> {
    let begun = Instant::now();
    let first = measure(pods.clone()).await;
    tokio::time::sleep(LOOK).await;
    let second = measure(pods).await;
    let passed = begun.elapsed().as_secs_f64();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    let page = u64::try_from(page).unwrap_or(4096);
    let used = |(pod, (time, pages)): (PodName, (u64, u64))| {
        // A process that ended takes its own time with it only when nobody waited for it.
        let before = first.get(&pod).map_or(time, |(before, _)| *before);
        let seconds = time.saturating_sub(before) as f64 / TICKS;
        PodUsage { pod, cpu_millis: (seconds / passed * 1000.0) as u64, memory_bytes: pages * page }
    };
    second.into_iter().map(used).collect()
}

/// Time and pages of each pod's processes.
async fn measure(pods: Vec<(PodName, PathBuf)>) -> BTreeMap<PodName, (u64, u64)> {
    let measured = tokio::task::spawn_blocking(move || {
        let (processes, leaders) = look(Path::new("/proc"), &pods);
        let sum = |leaders: &BTreeSet<u32>| {
            let of_pod = descendants(&processes, leaders);
            of_pod
                .iter()
                .filter_map(|pid| processes.get(pid))
                .fold((0, 0), |(time, pages), process| (time + process.time, pages + process.pages))
        };
        leaders.into_iter().map(|(pod, leaders)| (pod, sum(&leaders))).collect()
    });
    // Without a runtime that runs it nobody waits for it either.
    measured.await.unwrap_or_default()
}

type Leaders = BTreeMap<PodName, BTreeSet<u32>>;

/// All processes, and which of them are a pod's own.
fn look(proc: &Path, pods: &[(PodName, PathBuf)]) -> (BTreeMap<u32, Process>, Leaders) {
    let mut processes = BTreeMap::new();
    let mut leaders: Leaders = pods.iter().map(|(pod, _)| (pod.clone(), BTreeSet::new())).collect();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // What ends meanwhile is not there.
        let Some(process) = std::fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parse) else {
            continue;
        };
        processes.insert(pid, process);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        for (pod, state) in pods {
            if words.iter().any(|word| *word == state.as_os_str().as_encoded_bytes()) {
                leaders.entry(pod.clone()).or_default().insert(pid);
            }
        }
    }
    (processes, leaders)
}

/// The fields after the name, which is in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Counted from the state, the first after the name; see proc_pid_stat(5).
    let time = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Process { parent: u32::try_from(number(1)?).ok()?, time, pages: number(21)? })
}

fn descendants(processes: &BTreeMap<u32, Process>, leaders: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut found = leaders.clone();
    loop {
        let more: Vec<u32> = processes
            .iter()
            .filter(|(pid, process)| found.contains(&process.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "7 (a b) c) S 3 7 7 0 -1 0 9 9 9 9 10 20 30 40 20 0 1 0 99 4096 55 18446744073709551615 1";
        assert_eq!(parse(stat), Some(Process { parent: 3, time: 100, pages: 55 }));
        for wrong in ["", "7 (a) S", "7 a S 3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_process_has_started_is_its_own() {
        let process = |parent| Process { parent, time: 1, pages: 1 };
        let processes = [(1, process(0)), (2, process(1)), (3, process(2)), (4, process(1)), (5, process(3))].into();
        assert_eq!(descendants(&processes, &[2].into()), [2, 3, 5].into());
        assert_eq!(descendants(&processes, &[9].into()), [9].into());
    }

    #[test]
    fn this_process_is_found_by_its_command_line() {
        let line = std::fs::read("/proc/self/cmdline").expect("it is Linux");
        let word = line.split(|byte| *byte == 0).next().expect("a program");
        let state = PathBuf::from(String::from_utf8_lossy(word).into_owned());
        let pod: PodName = "a0".parse().unwrap();
        let (processes, leaders) = look(Path::new("/proc"), &[(pod.clone(), state)]);
        let own = std::process::id();
        assert!(leaders[&pod].contains(&own) && processes[&own].pages > 0, "{leaders:?}");
    }
}
