package status

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// chart is a drawing of a history: a stair with a step for each point, in a
// space of 180 by 100 with the newest at the right.
type chart struct {
	ID    string
	Kind  string // of style
	Title string
	Now   string // the value now
	Alt   string // the drawing in words
	Top   string // the value at the upper edge
	Line  string // path of the stair
	Area  string // path of what is below it
}

func rowsChart(id string, h history) chart {
	values := make([]float64, len(h.points))
	for i, p := range h.points {
		values[i] = float64(p.rows) / step.Seconds()
	}
	c := chart{ID: id + "-rows", Kind: "rows", Title: "Rows a second", Now: rate(h.rate)}
	highest, _ := greatest(values)
	c.Alt = "Rows a second in the last 15 minutes: now " + c.Now + ", highest " + rate(highest) + "."
	top := niceNumber(highest)
	c.Top = count(int64(top))
	c.Line, c.Area = stair(values, top)
	return c
}

func lagChart(id string, h history, lag time.Duration, known bool) chart {
	values := make([]float64, len(h.points))
	for i, p := range h.points {
		values[i] = p.lag.Seconds()
		if p.lag < 0 {
			values[i] = math.NaN()
		}
	}
	c := chart{ID: id + "-lag", Kind: "lag", Title: "Lag", Now: "not known"}
	if known {
		c.Now = duration(lag)
	}
	highest, any := greatest(values)
	c.Alt = "Lag in the last 15 minutes: now " + c.Now + "."
	if any {
		c.Alt = strings.TrimSuffix(c.Alt, ".") + ", highest " + duration(toDuration(highest)) + "."
		top := niceDuration(toDuration(highest))
		c.Top = duration(top)
		c.Line, c.Area = stair(values, top.Seconds())
	}
	return c
}

func toDuration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// greatest ignores what is not a number, and reports whether anything is.
func greatest(values []float64) (m float64, any bool) {
	for _, v := range values {
		if v >= m {
			m, any = v, true
		}
	}
	return m, any
}

// niceNumber is the least number of one digit and zeros that is not below v, 7
// and 9 left out.
func niceNumber(v float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, f := range []float64{1, 2, 3, 4, 5, 6, 8} {
			if f*unit >= v {
				return f * unit
			}
		}
	}
}

// niceDuration is the least duration of a clock's scale that is not below d. It
// begins at ten seconds: less is no lag to look at.
func niceDuration(d time.Duration) time.Duration {
	for _, nice := range []time.Duration{
		10 * time.Second, 20 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 6 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if nice >= d {
			return nice
		}
	}
	const day = 24 * time.Hour
	return time.Duration(niceNumber(float64(d)/float64(day))) * day
}

// stair draws values up to top. Where one is not a number there is a gap.
func stair(values []float64, top float64) (line, area string) {
	var l, a strings.Builder
	number := func(b *strings.Builder, op byte, v float64) {
		b.WriteByte(op)
		b.WriteString(strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64))
	}
	height := func(i int) float64 { return math.Round(1000*(1-values[i]/top)) / 10 }
	for i := 0; i < len(values); {
		if math.IsNaN(values[i]) {
			i++
			continue
		}
		x := float64(steps - len(values))
		for _, b := range []*strings.Builder{&l, &a} {
			number(b, 'M', x+float64(i))
		}
		number(&l, ' ', height(i))
		a.WriteString(" 100")
		number(&a, 'V', height(i))
		for ; i < len(values) && !math.IsNaN(values[i]); i++ {
			if i+1 < len(values) && height(i+1) == height(i) {
				continue // one flat step
			}
			for _, b := range []*strings.Builder{&l, &a} {
				number(b, 'H', x+float64(i+1))
				if i+1 < len(values) && !math.IsNaN(values[i+1]) {
					number(b, 'V', height(i+1))
				}
			}
		}
		a.WriteString("V100Z")
	}
	return l.String(), a.String()
}
