use mill_conformance::{server_side_copy_suite, store_suite};
use mill_simulation::audited_change_suite;

store_suite!(memory, crate::backends::memory_store, versions_in_listings: yes);
store_suite!(choosy, crate::backends::choosy_store, versions_in_listings: yes);
store_suite!(limited, crate::backends::limited_store, versions_in_listings: yes);
store_suite!(asked, crate::backends::asked_store, versions_in_listings: yes);
store_suite!(recording, crate::backends::recording_store, versions_in_listings: yes);
store_suite!(faulty, crate::backends::faulty_store, versions_in_listings: yes);

server_side_copy_suite!(memory_of_a_service, crate::backends::memory_of_a_service);
server_side_copy_suite!(limited_of_a_service, crate::backends::limited_of_a_service);
server_side_copy_suite!(asked_of_a_service, crate::backends::asked_of_a_service);
server_side_copy_suite!(recording_of_a_service, crate::backends::recording_of_a_service);
server_side_copy_suite!(faulty_of_a_service, crate::backends::faulty_of_a_service);

audited_change_suite!(audited_memory, crate::backends::memory_store, copies_by_itself: no);
audited_change_suite!(audited_memory_of_a_service, crate::backends::memory_of_a_service, copies_by_itself: yes);
