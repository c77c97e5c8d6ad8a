package survey

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// result holds the findings about a table.
type result struct {
	table    table
	view     bool
	rows     int      // that were read
	accepted bool     // a ceiling fits, with the key as it is
	snapshot bool     // it was read
	selects  []string // means that delivered inserts, updates and deletes with SELECT alone
	ddl      bool     // the printed script ran, twice, and delivered
	wrong    []string // values
	harm     []string // statements of the application that a remedy broke, remedies that failed
	notes    []string // why something was not measured
}

func (r *result) note(format string, args ...any) {
	r.notes = append(r.notes, r.table.Label()+": "+fmt.Sprintf(format, args...))
}

// survey examines a table.
func (d database) survey(t *testing.T, tb table) *result {
	r := &result{table: tb, view: tb.Kind != "table"}
	d.tryCeiling(r)
	a := d.settle(tb)
	if a.rows == 0 && !r.view {
		r.note("no generated row was accepted")
	}
	d.snapshot(r)
	if r.table.Key == nil && r.table.Place == "" {
		return r
	}
	for round, f := range d.followers(t, tb) {
		o, ok := d.follow(r, a, f, round)
		if o != nil {
			a.outcome = o // the last one: some applications cannot do a thing twice
		}
		if ok {
			r.selects = append(r.selects, f.name)
		}
	}
	if !r.view && r.table.Key != nil {
		d.install(t, r, a, 3)
	}
	return r
}

// tryCeiling finds out whether a ceiling fits the table as it is.
func (d database) tryCeiling(r *result) {
	if r.table.Key == nil {
		return
	}
	c, err := d.source(r.table).Check(context(), "")
	if err != nil {
		r.note("check: %v", err)
		return
	}
	r.accepted = c.Safe()
	if !r.accepted && *only != "" {
		r.note("%v", c)
	}
}

// figures returns the table of figures.
func figures(all []*schema) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %-22s %6s %6s %6s %8s %8s %8s %8s %6s %6s\n", "database", "schema", "tables", "views", "keys", "accepted", "snapshot", "select", "ddl", "wrong", "harm")
	var sum counts
	for _, s := range all {
		c := s.count()
		sum.add(c)
		fmt.Fprintf(&b, "%-10s %-22s %v\n", s.engine, s.name, c)
	}
	fmt.Fprintf(&b, "%-10s %-22s %v\n", "all", fmt.Sprint(len(all), " schemas"), sum)
	return b.String()
}

type counts struct{ tables, views, keys, accepted, snapshot, selects, ddl, wrong, harm, empty int }

func (c *counts) add(d counts) {
	c.tables, c.views, c.keys, c.accepted = c.tables+d.tables, c.views+d.views, c.keys+d.keys, c.accepted+d.accepted
	c.snapshot, c.selects, c.ddl = c.snapshot+d.snapshot, c.selects+d.selects, c.ddl+d.ddl
	c.wrong, c.harm, c.empty = c.wrong+d.wrong, c.harm+d.harm, c.empty+d.empty
}

func (c counts) String() string {
	return fmt.Sprintf("%6d %6d %6d %8d %8d %8d %8d %6d %6d", c.tables, c.views, c.keys, c.accepted, c.snapshot, c.selects, c.ddl, c.wrong, c.harm)
}

func (s *schema) count() (c counts) {
	one := func(is bool) int {
		if is {
			return 1
		}
		return 0
	}
	for _, r := range s.results {
		c.add(counts{one(!r.view), one(r.view), one(!r.view && r.table.Key != nil && !r.table.Nulls), one(!r.view && r.accepted), one(r.snapshot), one(!r.view && r.selects != nil),
			one(!r.view && r.ddl), len(r.wrong), len(r.harm), one(!r.view && r.rows == 0)})
	}
	return c
}

// judge requires the promises.
func judge(t *testing.T, all []*schema) {
	var sum counts
	for _, s := range all {
		sum.add(s.count())
		for _, r := range s.results {
			for _, n := range append(append(r.notes, r.wrong...), r.harm...) {
				t.Logf("%s %s: %.900s", s.engine, s.name, n)
			}
		}
	}
	assert.Zero(t, sum.wrong, "wrong values")
	assert.Zero(t, sum.harm, "harm")
	assert.Equal(t, sum.tables+sum.views, sum.snapshot, "a snapshot reads every table and view")
	if sum.tables >= 100 {
		assert.GreaterOrEqual(t, float64(sum.selects), 0.97*float64(sum.tables), "tables whose changes SELECT alone delivers")
	}
}
