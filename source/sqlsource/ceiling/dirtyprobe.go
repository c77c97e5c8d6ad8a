package ceiling

import "context"

// DirtyProbe guards a table of MySQL or MariaDB.
type DirtyProbe struct{}

func (DirtyProbe) String() string { return "dirty-probe" }

// Open implements [Ceiling].
func (c DirtyProbe) Open(_ context.Context, _ Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String()}
	r.Add(Unsafe, "", "not built")
	return nil, r.Err(t)
}
