use mill_conformance::table_suite;

table_suite!(memory, crate::backends::memory_table);
table_suite!(short_pages, crate::backends::short_paged_table);
table_suite!(recording, crate::backends::recording_table);
table_suite!(faulty, crate::backends::faulty_table);
