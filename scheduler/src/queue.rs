//! Whose turn it is: fair sharing of the slots between jobs by run time.
//!
//! Each job has a virtual time, the run time that it has been given divided by its weight; the job with the least goes
//! next. This gives what deficit round robin gives (a one-item job never waits for a million-item one) without rounds:
//! one item that runs for ten seconds would cost thousands of them. Start-time fair queueing is the field's name for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{FunctionId, FunctionSet, JobId};
use crate::time::saturating_nanos;

/// Run time divided by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct VirtualTime(u128);

impl VirtualTime {
    /// Returns the virtual time after another `cost` of run time at this priority.
    pub(crate) fn charged(self, cost: Duration, priority: i32) -> Self {
        Self(self.0.saturating_add(weighted(cost, priority)))
    }

    /// Returns the run time that a job at this priority may still get until it has reached another virtual time.
    pub(crate) fn run_time_until(self, other: Self, priority: i32) -> Duration {
        let nanos = other.0.saturating_sub(self.0) >> price(priority);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the virtual time without a `cost` that was charged and not used.
    pub(crate) fn refunded(self, cost: Duration, priority: i32) -> Self {
        Self(self.0.saturating_sub(weighted(cost, priority)))
    }
}

fn weighted(cost: Duration, priority: i32) -> u128 {
    u128::from(saturating_nanos(cost)) << price(priority)
}

/// Returns how often the price of run time is doubled. Each step of priority halves it; 8 steps either way.
fn price(priority: i32) -> u32 {
    u32::try_from(8 - priority.clamp(-8, 8)).expect("it is 0 to 16")
}

/// The jobs that have an item to run now, and the function of each: a worker takes those whose function it has.
///
/// Workers are alike but for a short time, so there is one queue. While they are not, what a worker cannot run is passed
/// over one by one.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    jobs: BTreeSet<(VirtualTime, JobId, FunctionId)>,
    /// The virtual time of the job that went last: where a job that comes or comes back starts.
    now: VirtualTime,
}

impl FairQueue {
    /// Returns the job whose turn it is.
    pub(crate) fn first(&self) -> Option<JobId> {
        self.jobs.first().map(|&(_, job, _)| job)
    }

    /// Returns the jobs of these functions, the next one first.
    pub(crate) fn iter_of(&self, functions: &FunctionSet) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter(|&&(_, _, function)| functions.has(function)).map(|&(_, job, _)| job)
    }

    /// Adds a job, and returns its virtual time: it can't have saved up turns while it had nothing to run.
    pub(crate) fn add(&mut self, function: FunctionId, job: JobId, time: VirtualTime) -> VirtualTime {
        let time = time.max(self.now);
        self.jobs.insert((time, job, function));
        time
    }

    /// Removes a job that was added with this virtual time.
    pub(crate) fn remove(&mut self, function: FunctionId, job: JobId, time: VirtualTime) {
        self.jobs.remove(&(time, job, function));
    }

    /// It was the turn of a job with this virtual time.
    pub(crate) fn advance(&mut self, time: VirtualTime) {
        self.now = self.now.max(time);
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn contains(&self, function: FunctionId, job: JobId, time: VirtualTime) -> bool {
        self.jobs.contains(&(time, job, function))
    }

    /// Returns the virtual time where a new job starts.
    pub(crate) fn now(&self) -> VirtualTime {
        self.now
    }

    /// Returns the jobs and their virtual times, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (VirtualTime, JobId)> {
        self.jobs.iter().map(|&(time, job, _)| (time, job))
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FairQueue, VirtualTime};
    use crate::id::{FunctionId, JobId};

    const F: FunctionId = FunctionId(1);
    const G: FunctionId = FunctionId(2);

    /// Runs `turns` turns of equal cost between two jobs with these priorities; returns how many each had.
    fn turns_of(priorities: [i32; 2], turns: usize) -> [usize; 2] {
        let mut queue = FairQueue::default();
        let mut times = [VirtualTime::default(); 2];
        let mut counts = [0; 2];
        for (job, time) in times.iter_mut().enumerate() {
            *time = queue.add(F, JobId(job as u64), *time);
        }
        for _ in 0..turns {
            let id = queue.first().unwrap();
            let job = usize::try_from(id.0).unwrap();
            queue.remove(F, id, times[job]);
            queue.advance(times[job]);
            times[job] = queue.add(F, id, times[job].charged(Duration::from_millis(4), priorities[job]));
            counts[job] += 1;
        }
        counts
    }

    #[test]
    fn equal_jobs_share_equally_and_priority_doubles_the_share() {
        assert_eq!(turns_of([0, 0], 100), [50, 50]);
        let [high, low] = turns_of([1, 0], 300);
        assert!(high.abs_diff(2 * low) <= 2, "{high} to {low}");
    }

    #[test]
    fn a_job_that_comes_late_goes_next_but_catches_nothing_up() {
        let mut queue = FairQueue::default();
        let old = queue.add(F, JobId(1), VirtualTime::default());
        queue.remove(F, JobId(1), old);
        queue.advance(old.charged(Duration::from_secs(10), 0));
        queue.add(F, JobId(1), old.charged(Duration::from_secs(20), 0));
        let time = queue.add(F, JobId(2), VirtualTime::default());
        assert_eq!(queue.first(), Some(JobId(2)));
        assert_eq!(time, VirtualTime::default().charged(Duration::from_secs(10), 0));
    }

    #[test]
    fn a_worker_takes_the_next_job_whose_function_it_has() {
        let mut queue = FairQueue::default();
        let at = |seconds| VirtualTime::default().charged(Duration::from_secs(seconds), 0);
        for (function, job, seconds) in [(F, 1, 3), (G, 2, 1), (F, 3, 2), (G, 4, 4)] {
            queue.add(function, JobId(job), at(seconds));
        }
        let first_of = |queue: &FairQueue, functions: &[FunctionId]| {
            queue.iter_of(&functions.iter().copied().collect()).next().map(|job| job.0)
        };
        assert_eq!(first_of(&queue, &[F]), Some(3));
        assert_eq!(first_of(&queue, &[F, G]), Some(2));
        assert_eq!(first_of(&queue, &[]), None);
        assert_eq!(queue.iter().map(|(_, job)| job.0).collect::<Vec<_>>(), [2, 3, 1, 4]);
        queue.remove(G, JobId(2), at(1));
        queue.remove(G, JobId(4), at(4));
        assert_eq!((queue.len(), queue.is_empty(), first_of(&queue, &[G])), (2, false, None));
    }
}
