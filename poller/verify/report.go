package verify

import (
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/compare"
)

// Report is the result of a comparison. In its Parts, the first stream is the table,
// and the second one the files.
type Report struct {
	Table string   // its name
	Key   []string // its columns
	Dir   string   // the directory
	UpTo  string   // up to which row, in words

	// Parts are the results for consecutive segments. There is more than one if
	// segments were taken, the pipeline was rewound, or columns were added.
	Parts []compare.Report

	// Notes say what could not be compared, although nothing is wrong.
	Notes []string

	// Unknown says which segments could not be compared because the table no longer
	// has their columns.
	Unknown []string
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *Report) unknown(format string, args ...any) {
	r.Unknown = append(r.Unknown, fmt.Sprintf(format, args...))
}

// Missing returns how many rows of the table the files do not have.
func (r Report) Missing() (n int64) {
	for _, p := range r.Parts {
		n += p.Missing.Records
	}
	return n
}

// Equal reports whether all rows that were compared are equal, and all segments
// could be.
func (r Report) Equal() bool {
	for _, p := range r.Parts {
		if !p.Equal() {
			return false
		}
	}
	return len(r.Unknown) == 0
}

// String returns the result in a few lines: ranges of keys, the first keys that
// differ, and what they mean.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (want) and the files in %s (got)\nkey: %s\n", r.UpTo, r.Dir, strings.Join(r.Key, ","))
	var want, got int64
	extra, changed := false, false
	for _, p := range r.Parts {
		b.WriteString(p.String())
		want, got = want+p.Want(), got+p.Got()
		extra, changed = extra || p.Extra.Records > 0, changed || p.Changed.Records > 0
	}
	for _, note := range append(r.Notes, r.Unknown...) {
		fmt.Fprintln(&b, "note: "+note)
	}
	if r.Missing() > 0 {
		fmt.Fprintln(&b, "A missing row is in the table and not in the files: it was lost, or its key appeared below the cursor after the copy had passed.")
	}
	if extra {
		fmt.Fprintln(&b, "An extra row is in the files and not in the table, or twice in the files: it was deleted or its key was updated after it was delivered, it was delivered twice, or a file was damaged.")
	}
	if changed {
		fmt.Fprintln(&b, "A changed row was updated after it was delivered, or its key was drawn again for another row, as after a restore: then that row is missing. Or a file was damaged.")
	}
	switch {
	case want+got == 0 && r.Equal():
		fmt.Fprintf(&b, "%s: NOTHING TO COMPARE. No row was delivered, or no segment is in the directory.\n", r.Table)
	case r.Equal():
		fmt.Fprintf(&b, "%s: EQUAL. All %d rows are the same.\n", r.Table, got)
	case r.Missing() > 0:
		fmt.Fprintf(&b, "%s: ROWS ARE MISSING. The table has %d rows, the files have %d.\n", r.Table, want, got)
	default:
		fmt.Fprintf(&b, "%s: DIFFERENT. No key is missing. The table has %d rows, the files have %d.\n", r.Table, want, got)
	}
	return b.String()
}
