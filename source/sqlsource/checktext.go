package sqlsource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// width is where sentences are broken. Statements are not broken, so that they can be copied.
const width = 100

// String returns the Check for a terminal: first whether it is safe, then why. Each
// statement to run has its own line.
func (c *Check) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", c.Table, c.verdict())
	if c.Report.Guarantee != "" {
		hang(&b, "", c.Report.Guarantee)
	}
	b.WriteByte('\n')
	for _, f := range slices.Concat(c.Report.Findings, c.Findings) {
		hang(&b, string(f.Level), f.Text)
		arrow := "-> "
		for _, r := range f.Remedies {
			hang(&b, "", arrow+r.Words)
			for _, s := range r.Statements {
				fmt.Fprintf(&b, "%*s%s\n", margin+4, "", s)
			}
			arrow = "-> or "
		}
	}
	b.WriteByte('\n')
	hang(&b, "cursor", c.Cursor)
	if c.Newest != "" {
		hang(&b, "newest", c.Newest)
	}
	hang(&b, "pending", c.pendingText())
	if !c.AsOf.IsZero() {
		hang(&b, "as of", "all rows committed before "+c.AsOf.UTC().Format(time.RFC3339Nano)+" can be read")
	}
	if h := c.Held; h != nil {
		by := cmp.Or(strings.Join(h.By, "; "), "an unknown holder")
		hang(&b, "held", "rows are held back by "+by+"; seen since "+h.Since.UTC().Format(time.RFC3339Nano))
	}
	fmt.Fprintf(&b, "\nreads with\n  %s\n", strings.ReplaceAll(c.Statement, "\n", "\n  "))
	if len(c.Plan) > 0 {
		fmt.Fprintf(&b, "planned as\n  %s\n", strings.Join(c.Plan, "\n  "))
	}
	return b.String()
}

func (c *Check) verdict() string {
	const stopped = "STOPPED. It cannot continue from here"
	switch cannot := hasUnsafe(c.Findings); {
	case hasUnsafe(c.Report.Findings):
		return "UNSAFE. Rows would be missed with the ceiling " + c.Report.Strategy + ", so it is refused"
	case c.Report.Lossy && cannot:
		return stopped + "; and rows can be missed with the ceiling " + c.Report.Strategy
	case cannot:
		return stopped
	case c.Report.Lossy:
		return "LOSSY. Rows can be missed with the ceiling " + c.Report.Strategy + ", which was chosen explicitly"
	}
	if c.InsertsOnly != "" {
		return fmt.Sprintf("SAFE for inserts only. No inserted row is missed with the ceiling %s, but updates can be: nothing is known to set %q at each UPDATE", c.Report.Strategy, c.InsertsOnly)
	}
	return "SAFE. No row is missed with the ceiling " + c.Report.Strategy
}

func (c *Check) pendingText() string {
	switch {
	case c.Pending < 0:
		return "not counted"
	case c.Pending > MaxPending:
		return fmt.Sprintf("more than %d rows", MaxPending)
	case c.Pending == 1:
		return "1 row"
	}
	return fmt.Sprintf("%d rows", c.Pending)
}

// margin is the column where text begins after its label.
const margin = 9

// hang writes a label, and next to it text in lines of width.
func hang(b *strings.Builder, label, text string) {
	line, gap := fmt.Sprintf("%-*s", margin, label), ""
	for _, word := range strings.Fields(text) {
		if gap != "" && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line, gap = strings.Repeat(" ", margin), ""
		}
		line += gap + word
		gap = " "
	}
	b.WriteString(line + "\n")
}
