package ceiling

import (
	"context"
	"fmt"
)

// Stamp guards a table of Postgres by a stamp of each change.
type Stamp struct {
	mustSee bool // the trigger is to be seen, and no word is taken
}

func (Stamp) String() string { return "stamp" }

// Open implements [Ceiling].
func (c Stamp) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String()}
	r.Add(Unsafe, "", "not built")
	return nil, r.Err(t)
}

// stampTrigger is the statement for a stamp that is drawn under the table's lock.
func stampTrigger(t Table, column string) string {
	return fmt.Sprintf(`CREATE FUNCTION stamp_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.%s := clock_timestamp(); RETURN NEW; END $$; CREATE TRIGGER stamp_row BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION stamp_row()`, quoteColumn(t, column), t.Name)
}

func quoteColumn(t Table, name string) string {
	for _, k := range t.Key {
		if k.Name == name {
			return k.Quoted
		}
	}
	return name
}
