//! New jobs, and new items of jobs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use procpool_items::ItemSlab;
use procpool_scheduler::{Event, JobId, JobSpec, Time};
use tokio::time::Instant;
use tracing::debug;

use super::Driver;
use super::entries::JobEntry;
use super::report::Happening;
use crate::admission::AdmittedItems;
use crate::error::CallError;
use crate::message::Submission;
use crate::payload::{JobHeader, JobPayload};

impl Driver {
    pub(super) fn submit(&mut self, submission: Submission) {
        let Submission { job, call, common, items, outlet, .. } = submission;
        if submission.is_abandoned.load(Ordering::Acquire) {
            // One end of a stream may still be there.
            return outlet.fail(CallError::Cancelled);
        }
        let function: Arc<str> = call.function.into();
        let function_id = self.function_id(&function);
        let spec = JobSpec {
            id: job,
            function: function_id,
            num_items: items.as_ref().map_or(0, |items| items.slab.len() as u64),
            input_closed: items.is_some(),
            delivery: submission.delivery,
            max_answer_bytes: call.max_answer_bytes,
            item_bytes: items.as_ref().map_or(0, |items| mean_bytes(&items.slab)),
            has_common: common.is_some(),
            deadline: call.deadline.map(|deadline| Time::from_start(deadline.saturating_duration_since(self.epoch))),
            options: call.options,
        };
        debug!(
            job = job.0,
            function = &*function,
            items = spec.num_items,
            request_id = call.label.request_id,
            "job submitted"
        );
        self.reporter.report(&Happening::JobSubmitted { job, function: &function, num_items: spec.num_items });
        let header = JobHeader {
            function,
            content_type: call.content_type.into(),
            style: call.style,
            trace: Arc::new(call.trace),
        };
        let mut payload = JobPayload::new(header, common, submission.delivery);
        if let Some(items) = items {
            payload.add(items);
        }
        let (label, submitted_at) = (call.label, Instant::now());
        self.jobs.insert(job, JobEntry { label, submitted_at, payload, outlet });
        self.apply_plain(Event::JobSubmitted(spec));
        self.publish_allowance(job);
    }

    pub(super) fn add_items(&mut self, job: JobId, items: AdmittedItems) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let (count, item_bytes) = (items.slab.len() as u64, mean_bytes(&items.slab));
        entry.payload.add(items);
        self.reporter.report(&Happening::ItemsAdded { job });
        self.apply_plain(Event::ItemsAdded { job, count, item_bytes });
    }
}

fn mean_bytes(slab: &ItemSlab) -> u64 {
    (slab.bytes().len() / slab.len().max(1)) as u64
}
