use mill_conformance::store_suite;

store_suite!(memory, crate::backends::memory_store, versions_in_listings: yes);
store_suite!(choosy, crate::backends::choosy_store, versions_in_listings: yes);
store_suite!(limited, crate::backends::limited_store, versions_in_listings: yes);
store_suite!(recording, crate::backends::recording_store, versions_in_listings: yes);
store_suite!(faulty, crate::backends::faulty_store, versions_in_listings: yes);
