package ceiling

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what a strategy found out about a table.
type Report struct {
	Strategy  string    // the strategy's name
	Guarantee string    // the guarantee for this table, and why, in one sentence
	Lossy     bool      // rows can be missed
	Findings  []Finding // in the order in which they were found
	Updates   Updates   // whether a row is read again after an UPDATE
	Indexed   bool      // whether an index begins with the whole key is one of the findings, so that a Table needs no plan

}

// Updates says whether a row is read again after an UPDATE.
type Updates int

// The answers.
const (
	UpdatesByKey   Updates = iota // only after an UPDATE that gives the row a greater key, and the database is not known to do that
	UpdatesRead                   // after each UPDATE, as the guarantee says
	UpdatesNotRead                // never, as the guarantee says
)

// Finding is one fact about a table that matters for the guarantee.
type Finding struct {
	Level Level
	Text  string // "the sequence orders_id_seq has CACHE 50, ..."

	// Remedies are the ways to change that, the best first. Any one of them is enough. Nil: none is needed.
	Remedies []Remedy
}

// Remedy is one way to change what a finding says.
type Remedy struct {
	Words string // what to do; where there are statements, what they do and what remains to be done after them

	// Statements are complete SQL statements, to be run as they stand, in this order, on one
	// connection, up to the first error. Running all of them a second time does no harm.
	Statements []string
}

// Level says what a finding means.
type Level string

// The levels.
const (
	OK      Level = "ok"      // as it should be
	Note    Level = "note"    // an assumption that the database does not enforce, or a fact that could not be read
	Warning Level = "warning" // reading is slow, a check is not possible, or the guarantee depends on what nobody can check
	Unsafe  Level = "unsafe"  // rows would be missed
)

// Add adds a finding. Remedies may be nil.
func (r *Report) Add(level Level, remedies []Remedy, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{level, fmt.Sprintf(format, args...), remedies})
}

// AddIf adds a finding if is holds.
func (r *Report) AddIf(is bool, level Level, remedies []Remedy, format string, args ...any) {
	if is {
		r.Add(level, remedies, format, args...)
	}
}

// Advice returns a single remedy.
func Advice(words string, statements ...string) []Remedy {
	return []Remedy{{Words: words, Statements: statements}}
}

// OtherMeans returns the remedies for a table that its key cannot be read by, or not its changes: the
// means that deliver inserts, updates and deletes with any key, and leave the table's columns alone.
func OtherMeans(t Table) []Remedy {
	return []Remedy{
		{Words: "record its changes in a change table, by triggers, and read that with package changelog; dbtofile -check -table " + t.Label + " prints the statements"},
		{Words: "compare passes over the whole table with package diffsource, which needs SELECT only"},
	}
}

// AsLongAs returns the last clause of a guarantee that depends on triggers, such as
// `, as long as the trigger set_id leaves "id" alone`. Verb is its plural. Without triggers it is "".
func AsLongAs(triggers []string, verb, rest string) string {
	last := len(triggers) - 1
	switch last {
	case -1:
		return ""
	case 0:
		return fmt.Sprintf(", as long as the trigger %s %ss %s", triggers[0], verb, rest)
	}
	return fmt.Sprintf(", as long as the triggers %s and %s %s %s", strings.Join(triggers[:last], ", "), triggers[last], verb, rest)
}

// Err returns an [*UnsafeError] if any finding is Unsafe, otherwise nil.
func (r *Report) Err(t Table) error {
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level == Unsafe }) {
		return nil
	}
	r.Lossy = true
	return &UnsafeError{Table: t.Label, Report: *r}
}

// Require returns an [*UnsafeError] if t is not a named table of the database whose SQL has
// that name.
func (r *Report) Require(t Table, database string) error {
	other := t.SQL.Name() != database
	r.AddIf(other, Unsafe, Advice("leave Ceiling nil: the ceiling that fits the table is then chosen automatically"),
		"it works on %s only, and this is %s", database, t.SQL.Name())
	r.addUnnamed(!other && t.Name == "", "nobody can check how rows are added")
	return r.Err(t)
}

// addUnnamed adds the finding about a Query that names no table.
func (r *Report) addUnnamed(is bool, so string) {
	r.AddIf(is, Unsafe, Advice("set the Query's field Table to the table that has the key"), "no table is named, so %s", so)
}

// UnsafeError says that rows would be missed, why, and what can be done. Package
// sqlsource marks it as permanent.
type UnsafeError struct {
	Table  string // the source's name
	Report Report
}

// Error lists every reason and its remedies, each statement on a separate line. It names
// objects of the database, and contains no values.
func (e *UnsafeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ceiling: %s: rows would be missed with the ceiling %s", e.Table, e.Report.Strategy)
	for _, f := range e.Report.Findings {
		if f.Level != Unsafe {
			continue
		}
		fmt.Fprintf(&b, "\n- %s", f.Text)
		for i, r := range f.Remedies {
			what := "to fix it"
			if i > 0 {
				what = "or"
			}
			fmt.Fprintf(&b, "\n  %s: %s", what, r.Words)
			for _, s := range r.Statements {
				b.WriteString("\n      " + s)
			}
		}
	}
	return b.String()
}

// FormatAge writes a number of seconds for people: 0.3s, 12s, 5m10s.
func FormatAge(seconds float64) string {
	d := max(time.Duration(seconds*float64(time.Second)), 0)
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
