package ceiling

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Report is what a strategy found out about a table.
type Report struct {
	Strategy  string    // the strategy's name
	Guarantee string    // what it guarantees for this table, and why, in one sentence
	Lossy     bool      // rows may be missed
	Findings  []Finding // in the order in which they were looked for
}

// Finding is one thing that was found out.
type Finding struct {
	Level Level
	Text  string // what is the case: "the sequence orders_id_seq has CACHE 50, ..."
	Fix   string // the statement to run, or what else to do about it; "" if nothing is needed
}

// Steps returns what Fix says to do, one step each: a statement, which ends in a
// semicolon and can be run as it is, or a few words.
func (f Finding) Steps() []string {
	var steps []string
	for _, part := range splitOutsideQuotes(f.Fix) {
		rest, either := strings.CutPrefix(part, "or ")
		switch {
		case statement.MatchString(part):
			steps = append(steps, part+";")
		case either && statement.MatchString(rest):
			steps = append(steps, "or", rest+";")
		case part != "":
			steps = append(steps, part)
		}
	}
	return steps
}

var statement = regexp.MustCompile(`^(ALTER|BEGIN|CREATE|DROP|GRANT|INSERT|PRAGMA|REVOKE|SET|UPDATE) |^COMMIT$`)

// token is a quoted name, text or body, or what a split goes by.
var token = regexp.MustCompile("(?is:\\bBEGIN\\s+(DELETE|INSERT|REPLACE|SELECT|UPDATE|WITH)\\b.*?;\\s*END\\b)|(?s:\\$\\$.*?\\$\\$|\"[^\"]*\"|`[^`]*`|\\B'[^']*'|;)")

func splitOutsideQuotes(text string) []string {
	var parts []string
	begin := 0
	for _, at := range token.FindAllStringIndex(text, -1) {
		if text[at[0]:at[1]] == ";" {
			parts = append(parts, strings.TrimSpace(text[begin:at[0]]))
			begin = at[1]
		}
	}
	return append(parts, strings.TrimSpace(text[begin:]))
}

// Level says what a finding means.
type Level string

// The levels.
const (
	OK      Level = "ok"      // as it should be
	Note    Level = "note"    // an assumption that the database does not enforce, or could not be looked at
	Warning Level = "warning" // slow, or a check that is not possible
	Unsafe  Level = "unsafe"  // rows would be missed
)

// Add adds a finding.
func (r *Report) Add(level Level, fix, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{level, fmt.Sprintf(format, args...), fix})
}

// Err returns an [UnsafeError] if any finding is Unsafe, otherwise nil.
func (r *Report) Err(t Table) error {
	for _, f := range r.Findings {
		if f.Level == Unsafe {
			r.Lossy = true
			return &UnsafeError{Table: t.Label, Report: *r}
		}
	}
	return nil
}

// UnsafeError says that rows would be missed, why, and what can be done. Package
// sqlsource marks it as permanent.
type UnsafeError struct {
	Table  string
	Report Report
}

// Error lists every reason with what to do about it. It names objects of the
// database, and no values.
func (e *UnsafeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ceiling: %s: rows would be missed with the %s:", e.Table, e.Report.Strategy)
	n := 0
	for _, f := range e.Report.Findings {
		if f.Level != Unsafe {
			continue
		}
		n++
		fmt.Fprintf(&b, " (%d) %s", n, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "; to mend it: %s", f.Fix)
		}
		b.WriteString(".")
	}
	b.WriteString(" Or accept that rows can be missed and choose a lossy ceiling by name: lag, grace or none")
	return b.String()
}

// FormatAge writes a number of seconds for people: 0.3s, 12s, 5m10s.
func FormatAge(seconds float64) string {
	d := max(time.Duration(seconds*float64(time.Second)), 0)
	if d < 10*time.Second {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	}
	return d.Round(time.Second).String()
}
