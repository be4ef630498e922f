//! Results: how large they are, how late their readers take them, and what must follow from that.

use std::collections::{BTreeMap, BTreeSet};

use procpool_scheduler::{Delivery, Event, Hold, JobFailure, JobId, ResultSize};

use super::World;
use crate::model::ModelJob;
use crate::random::Random;
use crate::results::{ModelBudget, ModelResults};
use crate::upset::Upset;

/// What it takes to keep results beside themselves, until they are put together with others.
const OVERHEAD: i64 = 3;

/// The results that came with the event that is being applied, and those that readers have.
pub(super) struct Results {
    random: Random,
    limit: u64,
    /// The largest results have about so many bytes.
    largest: u64,
    /// What each result of the current event really takes, and would take in an answer.
    sizes: Vec<ResultSize>,
    /// What the current event says that they take.
    told: ResultSize,
    /// What the scheduler has to be told of these jobs.
    uncounted: BTreeMap<JobId, ResultSize>,
    /// The job that has more than it may since its last result.
    is_refused: Option<JobId>,
    /// A job failed with the current event: others may have a larger share by the next.
    has_failed: bool,
}

impl Results {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(7_368_787));
        let limit = if random.below(4) == 0 { 256 << 20 } else { 1 << (6 + random.below(10)) };
        Self {
            limit,
            largest: 1 << random.below(12),
            random,
            sizes: Vec::new(),
            told: ResultSize::default(),
            uncounted: BTreeMap::new(),
            is_refused: None,
            has_failed: false,
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns what one answer may hold.
    pub(super) fn answer_limit(&mut self) -> Option<u64> {
        let most = 40 * self.largest;
        (self.random.below(3) == 0).then(|| self.random.below(most))
    }

    /// Returns what an event says of so many results. What they really take may be a little less or much more.
    pub(super) fn make(&mut self, count: u32) -> ResultSize {
        let most = 1 + self.random.below(self.largest);
        self.told = ResultSize::default();
        self.sizes.clear();
        for _ in 0..count {
            let length = 1 + self.random.below(most).cast_signed();
            self.told.held += length + OVERHEAD;
            self.told.answer += length;
            let evidence = if self.random.below(10) == 0 { self.random.below(most).cast_signed() } else { 0 };
            let overhead = if self.random.below(3) == 0 { 0 } else { OVERHEAD };
            self.sizes.push(ResultSize { held: length + overhead + evidence, answer: length + evidence });
        }
        self.told
    }

    fn add_uncounted(&mut self, job: JobId, held: i64, answer: i64) {
        if (held, answer) != (0, 0) {
            let change = self.uncounted.entry(job).or_default();
            change.held += held;
            change.answer += answer;
        }
    }
}

impl World {
    /// Results of the current event are stored.
    pub(super) fn store_results(&mut self, id: JobId, first: u64, skip: u32, count: u32) {
        let sizes = &self.results.sizes[skip as usize..(skip + count) as usize];
        let told = if sizes.len() == self.results.sizes.len() { self.results.told } else { ResultSize::UNKNOWN };
        self.store(id, first, told, sizes.to_vec());
    }

    /// An item has failed, and that is stored.
    pub(super) fn store_failure(&mut self, id: JobId, index: u64) {
        let bytes = 1 + self.results.random.below(self.results.largest).cast_signed();
        self.store(id, index, ResultSize::UNKNOWN, vec![ResultSize { held: bytes, answer: bytes }]);
    }

    fn store(&mut self, id: JobId, first: u64, told: ResultSize, sizes: Vec<ResultSize>) {
        let results = &mut self.jobs.get_mut(&id).unwrap().results;
        let mut change = ResultSize { held: -told.held, answer: -told.answer };
        for (index, size) in (first..).zip(sizes) {
            results.store(index, size.held.cast_unsigned());
            change.held += size.held;
            change.answer += size.answer;
        }
        results.count(told);
        self.results.add_uncounted(id, change.held, change.answer);
        self.results.is_refused = self.has_too_much(id).then_some(id);
    }

    /// Tells whether a job that delivers all together has more than it may.
    fn has_too_much(&self, id: JobId) -> bool {
        let ModelJob { spec, results: ModelResults { counted, .. }, ended, .. } = &self.jobs[&id];
        let is_too_long = spec.max_answer_bytes.is_some_and(|limit| counted.answer > limit.cast_signed());
        let is_too_much = self.budget(false).is_too_much(counted.held);
        spec.delivery == Delivery::Whole && ended.is_none() && (is_too_long || is_too_much)
    }

    /// The driver drops what nobody gets of a job that has failed.
    pub(super) fn drop_results(&mut self, id: JobId) {
        let results = &mut self.jobs.get_mut(&id).unwrap().results;
        let bytes = results.stored_bytes().cast_signed();
        results.drop_stored();
        self.results.add_uncounted(id, -bytes, 0);
        self.results.has_failed = true;
        if self.results.is_refused == Some(id) {
            self.results.is_refused = None;
        }
    }

    /// A job has failed for its results.
    pub(super) fn check_refusal(&mut self, id: JobId, failure: JobFailure) {
        let counted = self.jobs[&id].results.counted;
        let budget = self.budget(false);
        match failure {
            JobFailure::ResultsTooLarge { bytes, limit } => {
                assert_eq!(self.jobs[&id].spec.max_answer_bytes, Some(limit));
                assert!(bytes > limit && bytes == counted.answer.cast_unsigned(), "{bytes} {limit} {counted:?}");
                self.upsets.note(Upset::AnswerTooLarge);
            }
            JobFailure::ResultsFull { limit } => {
                assert_eq!(limit, budget.limit.cast_unsigned());
                assert!(budget.is_too_much(counted.held), "a job failed that has its share: {counted:?} {budget:?}");
                self.upsets.note(Upset::ResultsFull);
            }
            _ => {}
        }
    }

    pub(super) fn change_hold(&mut self, id: JobId, hold: Hold) {
        let job = self.jobs.get_mut(&id).unwrap();
        assert!(job.spec.delivery != Delivery::Whole && job.ended.is_none(), "only streams are paused");
        assert_ne!(job.hold, hold, "a change changes something");
        job.hold = hold;
        job.was_held |= hold != Hold::Nothing;
        self.upsets.note(match hold {
            Hold::Nothing => Upset::Resumed,
            Hold::AllButNext => Upset::PausedButForNext,
            Hold::All => Upset::Paused,
        });
    }

    /// An item of a job begins: of streams nothing does that should not when so much is held.
    pub(super) fn check_begin(&self, id: JobId) {
        let (job, budget) = (&self.jobs[&id], self.budget(true));
        if job.spec.delivery != Delivery::Whole && budget.is_full() {
            assert_eq!(job.hold, budget.hold_of(&job.results), "stream {id} goes on");
        }
    }

    /// Tells the scheduler what the results of the last event really take, which is an event; then all must be well.
    pub(super) fn recount(&mut self) {
        let Some((job, change)) = self.results.uncounted.pop_first() else { return self.check_results() };
        assert_eq!(self.results.is_refused, None, "a job has more than it may");
        self.jobs.get_mut(&job).unwrap().results.count(change);
        if change.held > 0 || change.answer > 0 {
            self.results.is_refused = self.has_too_much(job).then_some(job);
        }
        self.apply(Event::ResultsRecounted { job, change });
    }

    /// Nothing is known yet of what follows from an event.
    pub(super) fn expect_nothing(&mut self) {
        self.results.has_failed = false;
    }

    fn check_results(&self) {
        assert_eq!(self.results.is_refused, None, "a job has more than it may");
        let bytes: i64 = self.jobs.values().map(|job| job.results.counted.held).sum();
        assert_eq!(self.state.held_result_bytes(), bytes.cast_unsigned(), "what is held is counted");
        let budget = self.budget(true);
        let is_live = |job: &ModelJob| job.spec.delivery != Delivery::Whole && job.ended.is_none();
        for (id, job) in self.jobs.iter().filter(|(_, job)| is_live(job)) {
            let hold = budget.hold_of(&job.results);
            if hold == job.hold {
                continue;
            }
            // When jobs come, a share becomes less than what some hold, who are paused with their next results.
            let is_share = budget.used > budget.free && !budget.is_full();
            let may_be = is_share && (job.hold == Hold::Nothing || hold == Hold::Nothing && self.results.has_failed);
            assert!(may_be, "stream {id} has {:?} and should have {hold:?}: {:?} {budget:?}", job.hold, job.results);
        }
    }

    /// Returns how much is held by streams, or by jobs that deliver all together.
    pub(super) fn budget(&self, of_streams: bool) -> ModelBudget {
        let limit = self.results.limit.cast_signed();
        let (limit, free, shared) = if of_streams {
            let limit = limit / 4;
            (limit, limit / 4, limit / 4)
        } else {
            let limit = limit - limit / 4;
            (limit, limit - limit / 8, limit / 8)
        };
        let jobs = self.jobs.values().filter(|job| (job.spec.delivery != Delivery::Whole) == of_streams);
        let (mut used, mut num_jobs) = (0, 0);
        for job in jobs {
            used += job.results.counted.held;
            num_jobs += i64::from(job.ended.is_none() || job.results.counted.held > 0);
        }
        ModelBudget { limit, free, shared, used, num_jobs }
    }

    /// Readers of some job give back a part of what they have, or all; of one that has ended, too.
    pub(super) fn let_a_reader_give_back(&mut self) {
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.results.is_in_hand()).map(|(&id, _)| id).collect();
        let Some(id) = self.results.random.pick(&ids) else { return };
        let most = if self.results.random.below(2) == 0 { u64::MAX } else { 1 + self.results.random.below(1000) };
        self.give_back(id, most);
    }

    /// Returns some streams, mostly none.
    pub(super) fn some_readers(&mut self) -> BTreeSet<JobId> {
        let is_live = |job: &ModelJob| job.spec.delivery != Delivery::Whole && job.ended.is_none();
        let ids = self.jobs.iter().filter(|(_, job)| is_live(job)).map(|(&id, _)| id);
        let random = &mut self.results.random;
        let are_some = random.below(3) == 0;
        ids.filter(|_| are_some && random.below(2) == 0).collect()
    }

    /// All readers read what there is, but for those that are stalled. Nobody waits for these for ever, except when they
    /// exceed the limit: then, and when all others have ended, they read, too.
    pub(super) fn let_readers_read(&mut self, stalled: &mut BTreeSet<JobId>) {
        let waits = |(id, job): (&JobId, &ModelJob)| job.ended.is_none() && !stalled.contains(id);
        if !self.jobs.iter().any(waits) || self.budget(true).is_over() {
            stalled.clear();
        }
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            if stalled.contains(&job) {
                continue;
            }
            let of = self.jobs.get_mut(&job).unwrap();
            if of.ended.is_none() {
                of.taken = of.delivered.len() as u64;
                let total = of.taken;
                self.apply(Event::ResultsTaken { job, total });
            }
            self.give_back(job, u64::MAX);
        }
    }

    pub(super) fn give_back(&mut self, job: JobId, most: u64) {
        let of = self.jobs.get_mut(&job).unwrap();
        if !of.results.is_in_hand() {
            return;
        }
        let (bytes, count) = of.results.give_back(most);
        of.results.count(ResultSize { held: -bytes.cast_signed(), answer: 0 });
        if of.ended.is_some() {
            self.upsets.note(Upset::GivenBackAfterTheEnd);
        }
        self.apply(Event::ResultsGivenBack { job, bytes, count });
    }
}
