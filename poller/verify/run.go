package verify

import (
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/compare"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// run is what the pipeline has written without being rewound.
type run struct {
	first, last uint64 // numbers of its segments; last is below first if it has none
	after, upTo source.Cursor
}

// runs returns the runs of the directory, oldest first.
func (v *verifier) runs() ([]run, error) {
	all := []run{{first: 1, after: v.table.Start}}
	for _, rewind := range v.contents.Rewinds {
		from, err := v.table.Adopt(rewind.From)
		if err != nil {
			return nil, err
		}
		to, err := v.table.Adopt(rewind.To)
		if err != nil {
			return nil, err
		}
		if to == "" {
			to = v.table.Start
		}
		// Rows between the two cursors were skipped, or are delivered again.
		skipped, err := v.between(from, to)
		if err != nil {
			return nil, err
		}
		if skipped {
			v.report.note("the cursor was set from %s to %s before segment %d: the rows between them were skipped", v.table.Position(from), v.table.Position(to), rewind.Segment)
			continue // in the same run, which misses them
		}
		again, err := v.between(to, from)
		if err != nil {
			return nil, err
		}
		if again {
			v.report.note("the copy was rewound before segment %d: the rows from there to the cursor at that time are in two files, and are compared twice", rewind.Segment)
		}
		end := &all[len(all)-1]
		end.last, end.upTo = rewind.Segment-1, from
		all = append(all, run{first: rewind.Segment, after: to})
	}
	end := &all[len(all)-1]
	end.last, end.upTo = v.contents.Count, v.cursor
	return all, nil
}

// between reports whether the table has rows after one cursor and up to another.
func (v *verifier) between(after, upTo source.Cursor) (bool, error) {
	if upTo == "" || upTo == sqlsource.Latest || after == sqlsource.Latest {
		return false, nil
	}
	return v.rowsIn(v.of(v.table.Columns, ""), after, upTo)
}

// compareRun compares the segments of v.run.
func (v *verifier) compareRun() error {
	v.before, v.after = nil, ""
	if v.run.last < v.run.first {
		return v.nothing()
	}
	next, err := v.open()
	if next == nil && err == nil {
		v.report.note("the segments %d to %d are not in the directory: the rows in them are not compared", v.run.first, v.run.last)
	}
	for next != nil && err == nil {
		next, err = v.part(next)
	}
	return err
}

// nothing compares the table with a run in which no row was written.
func (v *verifier) nothing() error {
	if v.run.upTo == "" || v.run.upTo == v.run.after || v.run.after == sqlsource.Latest {
		return nil
	}
	entry := v.entryOf(filesink.JSONLines[row.Row](), &format{})
	return v.compare(v.of(v.table.Columns, v.run.upTo), v.run.after, entry, func(func(compare.Entry, error) bool) {})
}
