// Package compare compares two streams of records that have the same order, such as
// a table and a copy of it, or two passes over one table:
//
//	report, err := compare.Streams(table, files, compare.Options{Order: order})
//	if !report.Equal() {
//		fmt.Println(report)
//	}
//
// A record is an [Entry]: a key, which identifies it, and a digest of its content.
// [Streams] reports how many records are missing, extra or changed, by ranges of
// keys, and the first keys of each. [Align] returns the pairs themselves, for a
// program that acts on each difference.
//
// # Order
//
// The streams are read once, side by side, with bounded memory. The order of the
// keys may be one that Go does not know, such as a database's collation. Where the
// streams differ, both are read ahead until a key appears in both. Only where none
// appears within [Options].Window records, Options.Order is asked which of two keys
// comes first.
//
// A record with a damaged key is found as well: it is extra, and the record that it
// was is missing.
package compare
