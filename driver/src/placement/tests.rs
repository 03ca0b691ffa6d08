//! The laws of each policy, over thousands of keys and over builds that come and go.

use std::collections::BTreeMap;

use super::*;

const POLICIES: [LoadBalance; 4] =
    [LoadBalance::Sticky, LoadBalance::StickyBounded, LoadBalance::LeastLoaded, LoadBalance::Random];

const KEYS: usize = 10_000;

fn pod(i: usize) -> PodName {
    format!("kube0-6977cdcb75-{i:05}").parse().unwrap()
}

/// Pods of names like those of a cluster: another set for each `set`.
fn named(set: usize, count: usize) -> Vec<Candidate> {
    let pod = |i: usize| format!("kube0-{set:x}977cdcb75-{:05x}", i * 7919 + set * 104_729).parse().unwrap();
    (0..count).map(|i| Candidate { pod: pod(i), running: 0 }).collect()
}

fn pods(count: usize) -> Vec<Candidate> {
    busy(&vec![0; count])
}

fn busy(running: &[u32]) -> Vec<Candidate> {
    running.iter().enumerate().map(|(i, running)| Candidate { pod: pod(i), running: *running }).collect()
}

fn project(i: usize) -> Placing {
    Placing { project: StickyKey::new(format!("/home/user/src/project-{i}")), ..Placing::default() }
}

fn place(policy: LoadBalance, placing: &Placing, ready: &[Candidate]) -> PodName {
    choose(policy, placing, 0, ready).unwrap().pod
}

fn because(policy: LoadBalance, placing: &Placing, ready: &[Candidate]) -> String {
    choose(policy, placing, 0, ready).unwrap().because
}

fn home(i: usize, ready: &[Candidate]) -> PodName {
    place(LoadBalance::Sticky, &project(i), ready)
}

/// How many of the keys live on each pod.
fn spread(ready: &[Candidate]) -> Vec<usize> {
    let mut counts: BTreeMap<PodName, usize> = ready.iter().map(|one| (one.pod.clone(), 0)).collect();
    for i in 0..KEYS {
        *counts.get_mut(&home(i, ready)).unwrap() += 1;
    }
    counts.into_values().collect()
}

/// A stream of numbers that is the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[test]
fn without_a_ready_pod_none_is_chosen() {
    let internal = Placing { internal: true, ..project(0) };
    let linked = Placing { linked: Some(pod(0)), ..project(0) };
    for policy in POLICIES {
        for placing in [&project(0), &Placing::default(), &internal, &linked] {
            assert_eq!(choose(policy, placing, 7, &[]), None, "{policy:?}");
        }
    }
}

#[test]
fn the_same_project_lands_on_the_same_pod_whatever_the_order() {
    let mut ready = pods(5);
    for policy in [LoadBalance::Sticky, LoadBalance::StickyBounded, LoadBalance::LeastLoaded] {
        let before: Vec<PodName> = (0..100).map(|i| place(policy, &project(i), &ready)).collect();
        ready.reverse();
        for (i, pod) in before.iter().enumerate() {
            assert_eq!(place(policy, &project(i), &ready), *pod, "{policy:?}");
        }
    }
}

#[test]
fn projects_spread_evenly_within_five_percent() {
    for count in [3, 4, 10] {
        let even = KEYS / count;
        for held in spread(&pods(count)) {
            assert!(held.abs_diff(even) * 20 <= even, "{held} of {KEYS} keys on one of {count} pods");
        }
    }
}

#[test]
fn the_spread_is_that_of_chance_whatever_the_pods_are_called() {
    // Pearson's statistic has the mean n-1 and the variance 2(n-1) when every pod is as likely as any other.
    for count in [3_u32, 4, 10] {
        let even = KEYS as f64 / f64::from(count);
        let sets = 8_u32;
        let statistic = |set: usize| -> f64 {
            spread(&named(set, count as usize)).iter().map(|held| (*held as f64 - even).powi(2) / even).sum()
        };
        let mean = (0..sets as usize).map(statistic).sum::<f64>() / f64::from(sets);
        let (wanted, slip) = (f64::from(count - 1), (2.0 * f64::from(count - 1) / f64::from(sets)).sqrt());
        assert!((mean - wanted).abs() < 3.5 * slip, "{mean} for {count} pods, {wanted} would be chance");
    }
}

#[test]
fn a_pod_that_goes_gives_up_only_its_own_projects_and_one_that_comes_takes_only_its_share() {
    for set in 0..5 {
        let all = named(set, 4);
        let fewer = &all[..3];
        let mut moved = 0;
        for i in 0..KEYS {
            let (with, without) = (home(i, &all), home(i, fewer));
            if with != without {
                moved += 1;
                assert_eq!(with, all[3].pod);
            }
        }
        assert!(moved * 100 <= KEYS * 27, "{moved} of {KEYS} projects move");
    }
}

#[test]
fn under_bounded_load_no_pod_is_given_more_than_its_share_and_a_quarter() {
    let mut numbers = Numbers(1);
    let (mut placed, mut spilled) = (0, 0);
    for count in [1, 2, 3, 4, 10] {
        let mut ready = pods(count);
        let mut running: Vec<usize> = Vec::new();
        for _ in 0..4_000 {
            // Tides, so that both many and few builds run.
            let arrives = running.is_empty() || numbers.below(100) < if placed % 400 < 200 { 60 } else { 40 };
            if arrives {
                // A few projects are as busy as all others together.
                let i = if numbers.below(2) == 0 { numbers.below(3) } else { numbers.below(50) };
                let chosen = place(LoadBalance::StickyBounded, &project(i), &ready);
                let index = ready.iter().position(|one| one.pod == chosen).unwrap();
                ready[index].running += 1;
                running.push(index);
                placed += 1;
                spilled += usize::from(chosen != home(i, &ready));
                let most = (5 * running.len()).div_ceil(4 * count);
                assert!(ready[index].running as usize <= most, "{} of {most} on one pod", ready[index].running);
            } else {
                let gone = running.swap_remove(numbers.below(running.len()));
                ready[gone].running -= 1;
            }
        }
    }
    assert!(placed > 9_000 && spilled > 1_000 && spilled < placed, "{spilled} of {placed} were spilled");
}

#[test]
fn while_builds_only_come_every_pod_stays_within_its_share_and_a_quarter() {
    for count in [2, 3, 4, 10] {
        let mut ready = pods(count);
        for builds in 1..=500_u32 {
            // All of one project: its home would get them all.
            let chosen = place(LoadBalance::StickyBounded, &project(0), &ready);
            ready.iter_mut().find(|one| one.pod == chosen).unwrap().running += 1;
            let most = (5 * builds).div_ceil(4 * count as u32);
            assert!(ready.iter().all(|one| one.running <= most), "more than {most} in {ready:?}");
        }
    }
}

#[test]
fn a_project_over_its_share_spills_to_the_next_pod_in_its_order() {
    let ready = pods(4);
    for i in 0..50 {
        let first = home(i, &ready);
        let rest: Vec<Candidate> = ready.iter().filter(|one| one.pod != first).cloned().collect();
        let mut loaded = ready.clone();
        // With 4 of 4 builds there, a fifth would be allowed ceil(1.25 * 5 / 4) = 2.
        loaded.iter_mut().find(|one| one.pod == first).unwrap().running = 4;
        assert_eq!(place(LoadBalance::StickyBounded, &project(i), &loaded), home(i, &rest));
        assert_eq!(place(LoadBalance::Sticky, &project(i), &loaded), first);
    }
}

/// Places the builds of one invocation in an order, counts them as running, and returns each one's pod.
fn invocation(policy: LoadBalance, ready: &[Candidate], order: &[usize]) -> BTreeMap<usize, PodName> {
    let mut ready = ready.to_vec();
    let mut placed = BTreeMap::new();
    let mut siblings = Vec::new();
    for part in order {
        let part_key = StickyKey::new(format!("target-{part}"));
        let placing = Placing { part: part_key, siblings: siblings.clone(), ..project(0) };
        let chosen = place(policy, &placing, &ready);
        ready.iter_mut().find(|one| one.pod == chosen).unwrap().running += 1;
        siblings.push(chosen.clone());
        placed.insert(*part, chosen);
    }
    placed
}

#[test]
fn twelve_builds_of_one_invocation_use_four_pods_evenly_whatever_their_order() {
    let mut numbers = Numbers(2);
    let ready = pods(4);
    for policy in [LoadBalance::Sticky, LoadBalance::StickyBounded, LoadBalance::LeastLoaded] {
        for _ in 0..200 {
            let order = numbers.shuffled(12);
            let placed = invocation(policy, &ready, &order);
            for one in &ready {
                let held = placed.values().filter(|pod| **pod == one.pod).count();
                assert_eq!(held, 3, "{policy:?} {order:?}");
            }
            if policy != LoadBalance::LeastLoaded {
                assert_eq!(placed[&order[0]], home(0, &ready));
            }
        }
    }
}

#[test]
fn a_repeated_invocation_in_the_same_order_uses_the_same_pods() {
    let ready = pods(4);
    let order: Vec<usize> = (0..12).collect();
    let first = invocation(LoadBalance::Sticky, &ready, &order);
    assert_eq!(invocation(LoadBalance::Sticky, &ready, &order), first);
}

#[test]
fn an_invocation_in_another_order_keeps_more_of_its_pods_than_chance_would() {
    let ready = pods(4);
    let mut numbers = Numbers(5);
    let mut kept = 0;
    for _ in 0..200 {
        let [one, other] = [0; 2].map(|_| invocation(LoadBalance::Sticky, &ready, &numbers.shuffled(12)));
        kept += one.iter().filter(|(part, pod)| other[part] == **pod).count();
    }
    // Chance is a quarter; all of them would need to know the whole invocation before its first build is placed.
    assert!(kept * 3 > 200 * 12, "{kept} of {}", 200 * 12);
}

#[test]
fn siblings_on_pods_that_are_gone_do_not_count() {
    let ready = pods(2);
    let gone = pod(7);
    let mut held = vec![gone.clone(), gone.clone(), gone];
    for part in 0..6 {
        let placing = Placing { part: StickyKey::new(format!("{part}")), siblings: held.clone(), ..project(0) };
        held.push(place(LoadBalance::Sticky, &placing, &ready));
    }
    for one in &ready {
        assert_eq!(held.iter().filter(|pod| **pod == one.pod).count(), 3);
    }
}

#[test]
fn what_a_build_starts_from_decides_before_all_else() {
    let ready = busy(&[9, 0, 0]);
    for policy in POLICIES {
        for internal in [false, true] {
            let placing = Placing {
                linked: Some(pod(0)),
                siblings: vec![pod(0); 5],
                failed: vec![pod(0)],
                internal,
                ..project(0)
            };
            assert_eq!(place(policy, &placing, &ready), pod(0), "{policy:?}");
            let gone = Placing { linked: Some(pod(9)), ..project(0) };
            assert!(choose(policy, &gone, 0, &ready).is_some(), "{policy:?}");
        }
    }
}

#[test]
fn a_pod_on_which_a_build_failed_is_its_last_resort() {
    let ready = pods(3);
    let tried = |pods: &[usize]| pods.iter().map(|i| pod(*i)).collect::<Vec<_>>();
    for policy in POLICIES {
        for random in 0..6 {
            for internal in [false, true] {
                let placing = Placing { failed: tried(&[0, 2]), internal, ..project(1) };
                assert_eq!(choose(policy, &placing, random, &ready).unwrap().pod, pod(1), "{policy:?}");
                let everywhere = Placing { failed: tried(&[0, 1, 2]), internal, ..project(1) };
                assert!(choose(policy, &everywhere, random, &ready).is_some(), "{policy:?}");
            }
        }
    }
}

#[test]
fn a_probe_goes_to_an_idle_pod_and_is_not_sticky() {
    let ready = busy(&[3, 1, 1, 2]);
    for policy in POLICIES {
        let placing = Placing { internal: true, ..project(0) };
        let chosen: Vec<PodName> = (0..4).map(|random| choose(policy, &placing, random, &ready).unwrap().pod).collect();
        assert_eq!(chosen, [pod(1), pod(2), pod(1), pod(2)], "{policy:?}");
    }
}

#[test]
fn least_loaded_takes_the_pod_with_the_fewest_builds_and_among_equals_the_project_s_own() {
    assert_eq!(place(LoadBalance::LeastLoaded, &project(0), &busy(&[2, 1, 3])), pod(1));
    for i in 0..20 {
        let equals = busy(&[1, 1, 5]);
        assert_eq!(place(LoadBalance::LeastLoaded, &project(i), &equals), home(i, &equals[..2]));
    }
}

#[test]
fn random_takes_the_pod_that_the_number_names() {
    let ready = pods(3);
    for (random, index) in [(0, 0), (1, 1), (5, 2), (u64::MAX, 0)] {
        let chosen = choose(LoadBalance::Random, &project(0), random, &ready).unwrap();
        assert_eq!(chosen.pod, pod(index));
    }
}

#[test]
fn builds_of_which_nothing_is_known_do_not_pile_up_on_one_pod() {
    for policy in [LoadBalance::Sticky, LoadBalance::StickyBounded] {
        let mut ready = pods(4);
        for _ in 0..12 {
            let chosen = place(policy, &Placing::default(), &ready);
            ready.iter_mut().find(|one| one.pod == chosen).unwrap().running += 1;
        }
        assert!(ready.iter().all(|one| one.running == 3), "{policy:?} {ready:?}");
    }
}

#[test]
fn the_reason_is_one_clause_for_the_user() {
    use LoadBalance::{LeastLoaded, Random, Sticky, StickyBounded};
    let ready = pods(2);
    let app = Placing { project: StickyKey::new("/src/app"), ..Placing::default() };
    let home = place(Sticky, &app, &ready);
    let other = ready.iter().map(|one| &one.pod).find(|pod| **pod != home).unwrap();
    let mut loaded = ready.clone();
    loaded.iter_mut().find(|one| one.pod == home).unwrap().running = 4;
    let siblings = |count| Placing { siblings: vec![home.clone(); count], ..app.clone() };
    for (policy, placing, ready, wanted) in [
        (Sticky, app.clone(), &ready, "home of project /src/app".to_owned()),
        (Sticky, app.clone(), &loaded, "home of project /src/app".to_owned()),
        (
            StickyBounded,
            app.clone(),
            &loaded,
            format!("next for project /src/app: its home {home} has its share (4 of 4 builds)"),
        ),
        (
            Sticky,
            Placing { failed: vec![home.clone()], ..app.clone() },
            &ready,
            format!("next for project /src/app: it was tried on its home {home} before"),
        ),
        (Sticky, siblings(1), &ready, "spread beside 1 other build of this invocation".to_owned()),
        (StickyBounded, siblings(3), &ready, "spread beside 3 other builds of this invocation".to_owned()),
        (
            Random,
            Placing { linked: Some(other.clone()), ..app.clone() },
            &ready,
            format!("starts from what pod {other} built"),
        ),
        (Sticky, Placing { internal: true, ..app.clone() }, &loaded, "a probe: fewest builds running (0)".to_owned()),
        (LeastLoaded, app.clone(), &loaded, "fewest builds running (0)".to_owned()),
        (Sticky, Placing::default(), &ready, "nothing tells its project: fewest builds running (0)".to_owned()),
        (Random, app.clone(), &ready, "drawn at random".to_owned()),
    ] {
        assert_eq!(because(policy, &placing, ready), wanted, "{policy:?} {placing:?}");
    }
}
