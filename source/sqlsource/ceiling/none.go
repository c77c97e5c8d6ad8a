package ceiling

import "context"

// None reads all visible rows. It is lossy, unless the table has a single writer that only
// appends, or no writer at all. It takes your word for that, so it must be chosen
// explicitly. With asynchronous commit it can read rows that a crash of the server takes back.
type None struct{}

func (None) String() string { return "none" }

// Open implements [Ceiling].
func (c None) Open(context.Context, Queryer, Table) (Guard, error) {
	return none{Report{
		Strategy:  c.String(),
		Guarantee: "no row is missed if a single writer adds rows in the order of their key, for which it takes your word; otherwise a row that is committed with a key below the cursor is missed",
		Lossy:     true,
	}}, nil
}

type none struct{ report Report }

func (g none) Report() Report { return g.report }

func (none) Advance(context.Context, Queryer, []string) (Limit, error) { return Limit{}, nil }
