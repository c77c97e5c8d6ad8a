package survey

import (
	"fmt"
	"log/slog"

	"testing"

	"github.com/artifactofdevotion/devotion/source/changelog"
)

// install runs the printed script of a change table, twice, and lets the application write as it did
// before: each of its statements must have the same effect, and its changes must arrive.
func (d database) install(t *testing.T, r *result, a *application, round int) {
	log := &changelog.Table{DB: d.DB, Name: r.table.Label(), Key: r.table.Key, Load: true, Logger: slog.New(slog.DiscardHandler)}
	script, err := log.Script(context())
	if err != nil {
		r.note("changelog: %v", err)
		return
	}
	problems := d.run(t, script.String()+"\n", true)
	if err := script.Run(context(), d.DB); err != nil {
		problems = append(problems, "the second time: "+err.Error())
	}
	if problems != nil {
		r.harm = append(r.harm, fmt.Sprintf("%s: changelog: the script failed: %q", r.table.Label(), problems))
		return
	}
	f := &follower{name: "changelog", source: log, close: func() error { return nil }}
	after, ok := d.follow(r, a, f, round)
	r.ddl = ok
	if a.outcome != nil && after != nil {
		for _, b := range a.outcome.broken(after) {
			r.harm = append(r.harm, r.table.Label()+": changelog: "+b)
		}
	}
}
