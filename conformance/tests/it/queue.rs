use mill_conformance::queue_suite;

queue_suite!(memory, crate::backends::memory_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes);
queue_suite!(fenced, crate::backends::fenced_queue, fences_stale_receipts: yes, exact_depth: yes, tells_age: yes);
queue_suite!(wild, crate::backends::wild_queue, fences_stale_receipts: no, exact_depth: no, tells_age: yes);
queue_suite!(recording, crate::backends::recording_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes);
queue_suite!(faulty, crate::backends::faulty_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes);
