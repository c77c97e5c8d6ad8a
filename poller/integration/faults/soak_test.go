//go:build linux

package faults

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// usage is what a process uses at one moment.
type usage struct{ descriptors, goroutines, memory int }

// use asks the system and the process. It reports false while the process is not there.
func (p *program) use() (u usage, ok bool) {
	pid := p.pid()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, false
	}
	u.descriptors = len(open)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, false
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if fields := strings.Fields(rest); len(fields) > 0 {
		kilobytes, _ := strconv.Atoi(fields[0])
		u.memory = kilobytes >> 10
	}
	answer, err := client.Get("http://" + p.address() + "/metrics")
	if err != nil {
		return u, false
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			u.goroutines, _ = strconv.Atoi(rest)
		}
	}
	return u, u.goroutines > 0
}

// An outage every 5 s, of one kind after the other: the process uses no more descriptors,
// goroutines and memory at the end than in the middle.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, e := range servers {
		if !whole() && e.name != servers[turn()%2].name {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := fault{part: "soak", name: "outages", how: "connections are reset, refused, cut or lost for half a second",
				on: servers, prepare: useProxy}
			w := newWorld(t, f, e)
			useProxy(w)
			w.write()
			w.copy.start()
			w.flows()
			kinds := []func(w *world) func(){
				func(w *world) func() { w.between.refuse(); return func() { w.between.accept(w.t) } },
				func(w *world) func() { w.between.set(cut); return func() { w.between.set(nil) } },
				func(w *world) func() { w.between.set(lose); return func() { w.between.set(nil); w.between.resetAll() } },
				cutAnswers,
			}
			period := 5 * time.Second
			if !whole() {
				period = time.Second
			}
			var used []usage
			r := row{fault: f, where: e.name}
			for end := time.Now().Add(soakTime()); r.times < 6 || time.Now().Before(end); r.times++ {
				restore := kinds[r.times%len(kinds)](w)
				<-time.After(500 * time.Millisecond)
				restore()
				healed := time.Now()
				w.catchesUp()
				r.recovered = append(r.recovered, time.Since(healed))
				<-time.After(time.Until(healed.Add(period - 500*time.Millisecond)))
				w.eventually("the process says what it uses", func() bool {
					u, ok := w.copy.use()
					if ok {
						used = append(used, u)
					}
					return ok
				})
			}
			r.verdict, r.exit = w.finish()
			middle, last := most(used[:len(used)*2/3]), most(used[len(used)*2/3:])
			r.how += fmt.Sprintf(", every %v, for %v; descriptors %d, then %d; goroutines %d, then %d; memory %d MB, then %d MB", period, soakTime(),
				middle.descriptors, last.descriptors, middle.goroutines, last.goroutines, middle.memory, last.memory)
			results.add(t, r)
			assert.Equal(t, verdict{rows: r.rows}, r.verdict)
			assert.Equal(t, "0", r.exit)
			assert.LessOrEqual(t, last.descriptors, middle.descriptors+5)
			assert.LessOrEqual(t, last.goroutines, middle.goroutines+10)
			assert.LessOrEqual(t, last.memory, 2*middle.memory)
		})
	}
}

// most returns the greatest of each.
func most(all []usage) usage {
	return usage{
		slices.MaxFunc(all, func(a, b usage) int { return a.descriptors - b.descriptors }).descriptors,
		slices.MaxFunc(all, func(a, b usage) int { return a.goroutines - b.goroutines }).goroutines,
		slices.MaxFunc(all, func(a, b usage) int { return a.memory - b.memory }).memory,
	}
}
