use mill_conformance::queue_suite;

queue_suite!(memory, crate::backends::memory_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes, passes_over: no);
queue_suite!(fenced, crate::backends::fenced_queue, fences_stale_receipts: yes, exact_depth: yes, tells_age: yes, passes_over: no);
queue_suite!(adversarial, crate::backends::wild_queue, fences_stale_receipts: no, exact_depth: no, tells_age: yes, passes_over: no);
queue_suite!(recording, crate::backends::recording_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes, passes_over: yes);
queue_suite!(faulty, crate::backends::faulty_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes, passes_over: yes);
queue_suite!(accounts, crate::backends::accounts_queue, fences_stale_receipts: no, exact_depth: yes, tells_age: yes, passes_over: yes);
