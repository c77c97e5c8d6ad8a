package ceiling

import "context"

// None reads whatever is there. It is lossy, and for tables with a single
// writer that only appends, or to which nobody writes: that is your word. As it
// has no limit, rows of an asynchronous commit can be read that a crash of the
// server takes back.
type None struct{}

func (None) String() string { return "none" }

// Open implements [Ceiling].
func (c None) Open(context.Context, Queryer, Table) (Guard, error) {
	return none{Report{
		Strategy:  c.String(),
		Guarantee: "no row is missed if a single writer adds them in the order of their key, by your word; with several writers, rows that commit late are missed",
		Lossy:     true,
	}}, nil
}

type none struct{ report Report }

func (g none) Report() Report { return g.report }

// Raise implements [Guard].
func (none) Raise(context.Context, Queryer, []string) (Limit, error) { return Limit{}, nil }
