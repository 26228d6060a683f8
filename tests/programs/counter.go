package main
import ("bufio"; "fmt"; "net"; "os"; "sync/atomic"; "time")
var n, ticks int64
func main() {
  go func() { for range time.Tick(5 * time.Millisecond) { atomic.AddInt64(&ticks, 1) } }()
  for i := 0; i < 50; i++ { go func() { for { x := make([]byte, 100000); x[0] = 1; time.Sleep(time.Millisecond) } }() }
  server, err := net.Listen("tcp", "127.0.0.1:" + os.Args[1])
  if err != nil { panic(err) }
  for { c, err := server.Accept(); if err != nil { panic(err) }
    go func() { lines := bufio.NewScanner(c); for lines.Scan() {
      before := atomic.LoadInt64(&ticks)
      for atomic.LoadInt64(&ticks) == before { time.Sleep(time.Millisecond) }
      fmt.Fprintf(c, "%d\n", atomic.AddInt64(&n, 1)) } }() } }
